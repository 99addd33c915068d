"""Why a model scores badly: checks of the usual causes. Needs the `train` extra."""

from maskwatch.diagnosis.check import CheckState, Finding
from maskwatch.diagnosis.run import diagnose

__all__ = ["CheckState", "Finding", "diagnose"]

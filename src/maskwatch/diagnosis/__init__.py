"""Why a model scores badly: checks of the usual causes. Needs the `train` extra."""

from maskwatch.diagnosis.check import CheckResult, CheckState
from maskwatch.diagnosis.run import diagnose

__all__ = ["CheckResult", "CheckState", "diagnose"]

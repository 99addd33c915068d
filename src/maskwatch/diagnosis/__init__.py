"""Why a model scores badly: checks of what usually goes wrong. Needs the `train` extra."""

from maskwatch.diagnosis.check import Check, State
from maskwatch.diagnosis.run import diagnose

__all__ = ["Check", "State", "diagnose"]

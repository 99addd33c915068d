"""Writes and verifies model files of trained networks."""

from __future__ import annotations

from maskwatch.export.onnx import DEFAULT_THRESHOLD, describe_model, export_network
from maskwatch.export.photographs import Photograph, own_photographs, photographs_at, read_photographs
from maskwatch.export.verify import Verification, verify

__all__ = [
    "DEFAULT_THRESHOLD",
    "Photograph",
    "Verification",
    "describe_model",
    "export_network",
    "own_photographs",
    "photographs_at",
    "read_photographs",
    "verify",
]

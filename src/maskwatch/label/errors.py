"""Why labels were not saved; the service gives each its own status."""

from __future__ import annotations

from maskwatch.errors import MaskwatchError, OutputError


class ConflictError(MaskwatchError):
    """Another window or program has changed the labels of the picture."""


class DiskFullError(OutputError):
    """There is no room for the labels; the old ones are there as they were."""


class ReadOnlyError(OutputError):
    """Labels cannot be written here."""


class LabelInputError(MaskwatchError, ValueError):
    """A box or class that cannot be saved."""

"""The errors that Maskwatch raises.

Every message shows the offending value and ends with the next step, so that the command line can print it
as it is. Anything that is not a `MaskwatchError` is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class MaskwatchError(Exception):
    """Base of all errors below."""


class MissingExtraError(MaskwatchError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the '{extra}' extra; run: pip install 'maskwatch[{extra}]'")
        self.extra = extra


class OptionError(MaskwatchError, ValueError):
    """An option or argument has an invalid value."""


class ImageError(MaskwatchError):
    """A picture cannot be read: it is broken, empty, too large or of an unknown format."""


class SourceError(MaskwatchError):
    """A source (path, folder, glob, video, URL) does not exist or gives nothing."""


class ModelFileError(MaskwatchError):
    """A file is not a Maskwatch model, or this version cannot run it."""


class ModelServerError(MaskwatchError):
    """A model server cannot be reached, or answers with something else than detections."""


class OutputError(MaskwatchError):
    """A result cannot be written: the target exists, or is not writable."""


class LabelError(MaskwatchError):
    """A class name is unknown."""


class RecipeError(MaskwatchError):
    """A training recipe has an unknown key or an invalid value."""


class CheckpointError(MaskwatchError):
    """A checkpoint cannot be read, or does not fit the network."""


class TrainingError(MaskwatchError):
    """Training cannot continue; the message says what to change."""


class ExportError(MaskwatchError):
    """An exported model gives other results than its network."""


class EventError(MaskwatchError):
    """An event, or a file of events, cannot be read."""


class ClusterError(MaskwatchError):
    """A cluster cannot be reached, or its job has ended early."""


class ServiceError(MaskwatchError):
    """A service cannot be reached, or answers with an error.

    Attributes:
        status: the HTTP status; None without an answer.
        detail: the service's own explanation.
        retry_after_s: seconds to wait before the next request; None where the service gives none.
        failures: source and reason of each picture that the service could not read.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        failures: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.failures = tuple(failures)


class DataError(MaskwatchError):
    """One or more issues of a data set, all of them at once.

    `problems` holds one line for each issue: file, object and reason. A single issue may be a plain string.
    """

    shown = 50

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        count = len(self.problems)
        head = "\n".join(f"  {line}" for line in self.problems[: self.shown])
        tail = f"\n  … and {count - self.shown} more" if count > self.shown else ""
        super().__init__(
            f"{count} issue{'' if count == 1 else 's'} in the data set:\n{head}{tail}\n"
            "Fix or remove these files, then run again; maskwatch data check --fix repairs many in a copy."
        )

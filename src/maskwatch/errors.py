"""The errors that Maskwatch raises on purpose.

Every message shows the offending value and ends with the next step, so that the command line can print it
as it is. Anything that is not a `MaskwatchError` is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class MaskwatchError(Exception):
    """Base of all errors that a caller may want to catch."""


class MissingExtraError(MaskwatchError, ImportError):
    """A feature needs an optional dependency that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the '{extra}' extra; run: pip install 'maskwatch[{extra}]'")
        self.extra = extra


class OptionError(MaskwatchError, ValueError):
    """An option or argument with a value that cannot be used."""


class ImageError(MaskwatchError):
    """A picture that cannot be read: broken, empty, too large or of an unknown kind."""


class SourceError(MaskwatchError):
    """A source (path, folder, glob, video, URL) that does not exist or gives nothing."""


class ModelFileError(MaskwatchError):
    """A file that is no model of ours, or one that this version cannot run."""


class OutputError(MaskwatchError):
    """A result that cannot be written: the target exists, or is not writable."""


class LabelError(MaskwatchError):
    """A class name that is not known."""


class RecipeError(MaskwatchError):
    """A training recipe with an unknown key or a value that cannot be used."""


class CheckpointError(MaskwatchError):
    """A checkpoint that cannot be read, or that does not fit the network."""


class TrainingError(MaskwatchError):
    """A training that cannot go on; the message says what to change."""


class ExportError(MaskwatchError):
    """An exported model that does not give the answers of the network it came from."""


class EventError(MaskwatchError):
    """An event, or a file of events, that cannot be read."""


class ServiceError(MaskwatchError):
    """A service that cannot be reached, or its answer that says no.

    Attributes:
        status: the HTTP status; None where no answer came.
        detail: the service's own explanation.
        retry_after_s: seconds to wait before the next request; None where the service gives none.
        failures: source and reason of each picture that it could not read.
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

    `problems` holds one line an issue: file, object and reason. A single one may be given as a text.
    """

    shown = 50

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        head = "\n".join(f"  {line}" for line in self.problems[: self.shown])
        more = len(self.problems) - self.shown
        tail = f"\n  … and {more} more" if more > 0 else ""
        noun = "issue" if len(self.problems) == 1 else "issues"
        super().__init__(
            f"{len(self.problems)} {noun} in the data set:\n{head}{tail}\n"
            "Fix or remove these files, then run again; maskwatch data check --fix repairs many in a copy."
        )

"""Options of commands: a dataclass for each command, and parsers of texts."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

from maskwatch.errors import OptionError
from maskwatch.labels import parse_class_numbers

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from maskwatch.runtimes.choice import RuntimeSettings

Options = TypeVar("Options", bound="DataclassInstance")

ModelOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Name of an embedded model, or a file. Default: maskwatch-640."),
]
SizeOption = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Take the embedded model of this size, e.g. 320.")
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCORE", help="Scores above it count: 0.5, or mask=0.6,no_mask=0.3. Default: the model's."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Threads of the network. Default: one a core.", rich_help_panel="Speed"),
]

RuntimeOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What computes: auto, onnxruntime, openvino, or the http:// address of a model server.",
        rich_help_panel="Speed",
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda, gpu …", rich_help_panel="Speed")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="auto, float32, bfloat16, float16.", rich_help_panel="Speed"),
]

_TIME_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class PanelCommand(TyperCommand):
    """Lists options under their `rich_help_panel`, which Typer does only where it draws boxes.

    Arguments are listed without the Python types that Typer puts beside them.
    """

    def help_panels(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Heading → names and help texts of the parameters below it."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                name = re.sub(r" <.*>$", "", record[0])  # an argument's Python type
                panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(
                    (name, record[1])
                )
        return panels

    def format_options(self, ctx: Any, formatter: Any) -> None:  # Click's, which Typer brings or requires
        for heading, records in self.help_panels(ctx).items():
            with formatter.section(heading):
                formatter.write_dl(records)


def with_options(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turns a function of a dataclass into a command with one argument or option for each field.

    The fields are annotated like the parameters of a Typer command.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)
    ]

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            function(options(**values))

        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__dict__["__signature__"] = inspect.Signature(parameters)
        return command

    return decorate


def parse_threshold(text: str | None) -> float | dict[str, float] | None:
    """`"0.5"` for all classes, `"mask=0.6,no_mask=0.3"` for some; None stays None. Raises `OptionError`."""
    try:
        return None if text is None else parse_class_numbers(text)
    except ValueError as error:
        raise OptionError(f"--threshold {error}") from None


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """`"mask, no_mask"` → names; None stays None."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`"640"` → (640, 640), `"480x640"` → (height 480, width 640); None stays None. Raises `OptionError`."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise OptionError(f"--size {text!r} is not a size; write 640, or 480x640 for height x width")
    return int(parts[0]), int(parts[-1])


def pick_model(model: str | None, size: int | None, default: str | None = None) -> str:
    """The model of `--model`, or the embedded one of `--size`, else `default`, else that of the package.

    Raises:
        OptionError: both are given, or no embedded model has this size.
    """
    from maskwatch.models import DEFAULT_MODEL, embedded_of_size

    if size is None:
        return model or default or DEFAULT_MODEL
    if model is not None:
        raise OptionError(f"--size {size} picks an embedded model, --model {model} names one; give only one")
    return embedded_of_size(size)


class RuntimeOptions(Protocol):
    """The options of a command that say what computes; None leaves the choice."""

    @property
    def runtime(self) -> str | None: ...
    @property
    def device(self) -> str | None: ...
    @property
    def precision(self) -> str | None: ...
    @property
    def threads(self) -> int | None: ...


def pick_runtime(options: RuntimeOptions, *, reference: bool = False) -> RuntimeSettings:
    """What the options name, "auto" for the rest.

    Args:
        reference: without any, take ONNX Runtime on the CPU in float32, so that a measurement does not depend
            on the machine.

    Raises:
        OptionError: an unknown value, or a combination that does not exist.
    """
    from maskwatch.runtimes.choice import AUTO, REFERENCE, RuntimeSettings

    names = (options.runtime, options.device, options.precision)
    if reference and names == (None, None, None):
        return replace(REFERENCE, threads=options.threads)
    runtime, device, precision = (name or AUTO for name in names)
    return RuntimeSettings(runtime, device, precision, options.threads)


def parse_moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """`2h` (ago), `today`, `yesterday`, `14:30` (today), `2026-03-01`, `2026-03-01T14:30`; None stays None.

    `option` is for the message, `now` has a time zone; a text without one means that of this machine. Raises
    `OptionError`.
    """
    if text is None:
        return None
    words = re.sub(r"(?<![\d:])(\d:\d\d)", r"0\1", text.strip())  # 9:30, with a date too
    midnight = datetime.combine(now.date(), time())
    try:
        if ago := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", words):
            return now - timedelta(**{_TIME_UNITS[ago[2]]: float(ago[1])})
        if words in ("today", "yesterday"):
            return (midnight - timedelta(days=words == "yesterday")).astimezone()
        if re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", words):
            return datetime.combine(now.date(), time.fromisoformat(words)).astimezone()
        moment = datetime.fromisoformat(words)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        raise OptionError(
            f"{option} {text!r} is not a time; write 2h (ago), today, 14:30, 2026-03-01 or 2026-03-01T14:30"
        ) from None

"""Where events go: the options of every command that watches, defined once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from maskwatch.live.sinks.settings import SinkSettings


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel="Events")


# What is stored beside them: a matter of the plan, not of a sink.
Thumbnails = Annotated[
    Path | None, _option("--thumbnails", metavar="DIR", help="Store a picture of each alert, faces blurred.")
]
Retain = Annotated[
    float | None,
    _option("--retain", metavar="DAYS", help="Delete what this command stored, once so old."),
]


@dataclass(frozen=True)
class EventOptions:
    """What the user gave of them. A command has them all by one parameter, see `with_event_options`."""

    events: Annotated[
        Path | None, _option("--events", metavar="FILE", help="Append events to a JSON Lines file.")
    ] = None
    db: Annotated[
        Path | None,
        _option("--db", metavar="FILE", help="Store events in SQLite, for `maskwatch events`."),
    ] = None
    webhook: Annotated[
        str | None,
        _option(metavar="URL", help="Send events by HTTP; secret in MASKWATCH_WEBHOOK_SECRET."),
    ] = None
    mqtt: Annotated[
        str | None,
        _option(metavar="URL", help="mqtt://user@host/prefix; password in MASKWATCH_MQTT_PASSWORD."),
    ] = None
    outboxes: Annotated[
        Path | None,
        _option(metavar="DIR", help="Where events wait for a webhook or a broker that is away."),
    ] = None
    notify: Annotated[bool, _option("--notify", help="A desktop notification for each alert.")] = False
    sound: Annotated[bool, _option("--sound", help="A sound for each alert.")] = False
    shell: Annotated[
        str | None,
        _option(metavar="COMMAND", help="Run for each alert, with its JSON on standard input."),
    ] = None
    send: Annotated[
        list[str] | None,
        _option(
            metavar="SINK=KINDS", help="Which events a sink gets, e.g. notify=alert,crossing or mqtt=all."
        ),
    ] = None

    def given(self) -> list[str]:
        """Those that were given. Only of paths the value too, since an address may hold a secret."""
        values = [(one.name, getattr(self, one.name)) for one in fields(self)]
        return [
            f"--{name} {value}" if isinstance(value, Path) else f"--{name}"
            for name, value in values
            if value not in (None, False, [])
        ]

    def settings(self) -> SinkSettings:
        """What opens the sinks.

        Raises:
            OptionError: `--send` names no sink or no kind.
            ModuleNotFoundError: the extra `live` is not there.
        """
        from maskwatch.live.sinks.settings import SinkSettings, parse_kinds

        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "send"}
        return SinkSettings(**values, kinds=parse_kinds(self.send or []))


def with_event_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer is to see it: with an option for each field of its parameter of type `EventOptions`.

    That parameter is for keywords only; the options stand in its place.
    """
    signature = inspect.signature(command, eval_str=True)
    (own,) = (one for one in signature.parameters.values() if one.annotation is EventOptions)
    types = get_type_hints(EventOptions, include_extras=True)
    options = [
        own.replace(name=one.name, default=one.default, annotation=types[one.name])
        for one in fields(EventOptions)
    ]

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        taken = {one.name: given.pop(one.name) for one in options}
        command(**given, **{own.name: EventOptions(**taken)})

    parameters: list[inspect.Parameter] = []
    for one in signature.parameters.values():
        parameters += options if one is own else [one]
    filled.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return filled

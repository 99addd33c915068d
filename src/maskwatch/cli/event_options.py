"""Options about where events go, for every command that watches."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from maskwatch.live.sinks.settings import SinkSettings, parse_database, parse_kinds


def _option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel="Events")


# These concern no sink: `watch` and `serve` store pictures and delete old data themselves.
ThumbnailsOption = Annotated[
    Path | None, _option("--thumbnails", metavar="DIR", help="Store a picture of each alert, faces blurred.")
]
ClipsOption = Annotated[
    Path | None, _option("--clips", metavar="DIR", help="Record each alert as MP4, faces blurred.")
]
KeepHardOption = Annotated[
    Path | None,
    _option("--keep-hard", metavar="DIR", help="Store hard cases for labelling, faces shown."),
]
RetainOption = Annotated[
    float | None,
    _option("--retain", metavar="DAYS", help="Delete stored data after so many days."),
]

_OPTIONS = {
    "events": _option("--events", metavar="FILE", help="Append events to a JSON Lines file."),
    "db": _option(
        "--db",
        metavar="FILE|URL",
        help="Store events for `maskwatch events`: an SQLite file, or postgresql://user@host/name.",
    ),
    "webhook": _option(metavar="URL", help="Send events by HTTP; secret in MASKWATCH_WEBHOOK_SECRET."),
    "mqtt": _option(metavar="URL", help="mqtt://user@host/prefix; password in MASKWATCH_MQTT_PASSWORD."),
    "outboxes": _option(
        metavar="DIR", help="Where events wait for an unreachable webhook, broker or server."
    ),
    "notify": _option("--notify", help="A desktop notification for each alert."),
    "sound": _option("--sound", help="A sound for each alert."),
    "apprise": _option(
        metavar="URL", help="A message for each alert by a service of Apprise, or a file of such addresses."
    ),
    "shell": _option(metavar="COMMAND", help="Run for each alert, with its JSON on standard input."),
}
"""By field of `SinkSettings`."""

_SEND = _option(
    metavar="SINK=KINDS", help="Which events a sink gets, e.g. notify=alert,crossing or mqtt=all."
)


def with_event_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replaces the keyword-only parameter of type `SinkSettings` by the options that fill it.

    Raises:
        OptionError: when the command is called, `--send` names no sink or no kind.
    """
    signature = inspect.signature(command, eval_str=True)
    (own,) = (one for one in signature.parameters.values() if one.annotation is SinkSettings)
    types = get_type_hints(SinkSettings) | {"db": str | None}
    defaults = {one.name: one.default for one in fields(SinkSettings)}
    options = [
        own.replace(name=name, default=defaults[name], annotation=Annotated[types[name], option])
        for name, option in _OPTIONS.items()
    ]
    options.append(own.replace(name="send", default=None, annotation=Annotated[list[str] | None, _SEND]))

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        kinds = parse_kinds(given.pop("send") or [])
        if given["db"] is not None:
            given["db"] = parse_database(given["db"])
        sinks = SinkSettings(**{name: given.pop(name) for name in _OPTIONS}, kinds=kinds)
        command(**given, **{own.name: sinks})

    parameters: list[inspect.Parameter] = []
    for one in signature.parameters.values():
        parameters += options if one is own else [one]
    filled.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return filled


def given_options(sinks: SinkSettings) -> list[str]:
    """The options that the user gave, paths with their value: an address may hold a secret."""
    values = [(name, getattr(sinks, name)) for name in _OPTIONS] + [("send", sinks.kinds)]
    return [
        f"--{name} {value}" if isinstance(value, Path) else f"--{name}"
        for name, value in values
        if value not in (None, False, {})
    ]

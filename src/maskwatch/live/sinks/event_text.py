"""An event as one line of text."""

from __future__ import annotations

from maskwatch.live.events import Event


def event_line(event: Event) -> str:
    """For example `12:03:44 door: person 7 no mask for 2 s in entrance (91%)`, always valid UTF-8.

    The time is that of the event in its own time zone, or the position in a video file, `0:03:44`.
    """
    moment = f"{event.time:%H:%M:%S}" if event.time_s is None else timecode(event.time_s)
    # The name of a file may hold bytes that are not text.
    return f"{moment} {event.source}: {_what(event)}".encode("utf-8", "backslashreplace").decode()


def timecode(seconds: float) -> str:
    """A position in a video as players write it: `0:03:44`, `12:00:05`."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02}:{whole % 60:02}"


def duration(seconds: float) -> str:
    """Seconds in words: `4 s`, `2 min 05 s`, `1 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def state_text(state: str | None) -> str:
    """A class name in words: `no mask`; `undecided` for None."""
    return "undecided" if state is None else state.replace("_", " ")


def percent(score: float) -> str:
    """A share of the vote: `91%`; at most 99%, since none is certain."""
    return f"{min(99, int(100 * score))}%"


def _what(event: Event) -> str:
    if event.kind == "source":
        return f"{event.state}" + (f": {event.reason}" if event.reason else "")
    if event.kind == "minute":
        return f"counts of {event.time:%H:%M}" if event.time_s is None else "counts of a minute"
    person = f"person {event.track}"
    if event.kind == "crossing":
        return f"{person} went {event.direction} over {event.line} ({state_text(event.state)})"
    lasted = "" if event.duration_s is None else f" for {duration(event.duration_s)}"
    zone = f" in {event.zone}" if event.zone else ""
    if event.kind == "alert":
        score = "" if event.score is None else f" ({percent(event.score)})"
        return f"{person} {state_text(event.state)}{lasted}{zone}{score}"
    why = {"changed": "no longer", "left": "gone,", "stopped": "still", "static": "is a picture,"}.get(
        event.reason or "", "no longer"
    )
    return f"{person} {why} {state_text(event.state)} after{lasted.removeprefix(' for')}{zone}"

"""Texts that name a moment → times with a time zone."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta

from maskwatch.errors import OptionError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """`2h` (ago), `today`, `yesterday`, `14:30` (today), `2026-03-01`, `2026-03-01T14:30`; None stays None.

    Args:
        option: for the message.
        now: with time zone; a text without one means that of this machine.

    Raises:
        OptionError: none of these.
    """
    if text is None:
        return None
    words = re.sub(r"(?<![\d:])(\d:\d\d)", r"0\1", text.strip())  # 9:30, with a date too
    midnight = datetime.combine(now.date(), time())
    try:
        if ago := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", words):
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        if words in ("today", "yesterday"):
            return (midnight - timedelta(days=words == "yesterday")).astimezone()
        if re.fullmatch(r"\d{2}:\d{2}(:\d{2})?", words):
            return datetime.combine(now.date(), time.fromisoformat(words)).astimezone()
        moment = datetime.fromisoformat(words)
        return moment if moment.tzinfo is not None else moment.astimezone()
    except (ValueError, OverflowError, OSError):
        raise OptionError(
            f"{option} {text!r} names no moment; write 2h (ago), today, 14:30, 2026-03-01 or 2026-03-01T14:30"
        ) from None

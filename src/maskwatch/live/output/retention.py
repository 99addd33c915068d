"""Deletes what watching has stored, once it is old enough: pictures, recordings, rotated logs, events."""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.live.events import EVENT_SCHEMA
from maskwatch.live.output import thumbnails
from maskwatch.live.output.recorder import STAMP, part_pattern

EVERY = timedelta(hours=1)
"""How long after one run `Retention.run` does nothing."""

# A part of a recording is an hour long and named after its beginning: none that is being written is older.
_SHORTEST_DAYS = 0.1
_LONGEST_DAYS = 36_500.0
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Kept:
    """A kind of file that maskwatch writes.

    Attributes:
        noun: for messages, as (one, several).
        folder: where such files lie; not the folders in it.
        names: matches the whole of their names. Where a group `stamp` tells the time (UTC), that is the age
            of a file; elsewhere the time of its last change is.
        head: what each of them begins with.
        lines: they are text, of which the first line may be damaged; then another one begins with `head`.
    """

    noun: tuple[str, str]
    folder: Path
    names: re.Pattern[str]
    head: bytes = b""
    lines: bool = False


def kept_thumbnails(folder: Path) -> Kept:
    """What `Thumbnails(folder)` stores."""
    return Kept(("picture", "pictures"), folder, thumbnails.NAMES, b"\xff\xd8\xff")


def kept_recordings(path: Path) -> Kept:
    """The parts that `Recorder(path, …, part_s=PART_S)` writes."""
    return Kept(("recording", "recordings"), path.parent, part_pattern(path))


def kept_logs(path: Path) -> Kept:
    """The files `events.jsonl.1`, `.2` and so on beside `events.jsonl`; that one is still written to."""
    names = re.compile(re.escape(path.name) + r"\.\d+", re.ASCII)
    head = b'{"schema": "' + EVENT_SCHEMA.partition("/")[0].encode()
    return Kept(("log", "logs"), path.parent, names, head, lines=True)


@dataclass(frozen=True)
class Deleted:
    """What one run has done.

    Attributes:
        days: that things are kept.
        files: noun → number of files deleted.
        events: number of stored events deleted.
        failures: one line for each that could not be deleted, with the reason.
    """

    days: float
    files: dict[tuple[str, str], int]
    events: int
    failures: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a log; empty where nothing was old enough."""
        counts = {**self.files, ("event", "events"): self.events}
        parts = [f"{count} {noun[count != 1]}" for noun, count in counts.items() if count]
        done = f"deleted what is older than {self.days:g} days: {', '.join(parts)}" if parts else ""
        return "; ".join(filter(None, (done, *self.failures)))


class Retention:
    """Keeps things for some days only.

    Only regular files with a name, a place and a beginning as maskwatch's own are deleted: never a link, a
    folder, or a file of somebody else.

    Args:
        days: how long things are kept.
        kinds: the files.
        forget: each deletes stored events before a moment and gives their number, as
            `EventStore.delete_before` does.

    Raises:
        OptionError: `days` is no sensible number.
    """

    def __init__(
        self,
        days: float,
        kinds: Sequence[Kept],
        forget: Sequence[Callable[[datetime], int]] = (),
    ) -> None:
        if not math.isfinite(days) or not _SHORTEST_DAYS <= days <= _LONGEST_DAYS:
            raise OptionError(
                f"--retain {days:g}: things are kept for {_SHORTEST_DAYS:g} to {_LONGEST_DAYS:g} days; "
                "write for example --retain 30"
            )
        self._days, self._kinds, self._forget = days, tuple(kinds), tuple(forget)
        self._ran: datetime | None = None

    def run(self, now: datetime) -> Deleted | None:
        """Deletes what is too old at `now` (with time zone); None where it did so less than an hour ago.

        What cannot be deleted stands in the result and is tried again by the next run. Nothing is raised for
        it, since the camera is to go on being watched.
        """
        if self._ran is not None and timedelta(0) <= now - self._ran < EVERY:
            return None
        self._ran = now
        limit = now - timedelta(days=self._days)
        files: dict[tuple[str, str], int] = {}
        failures: list[str] = []
        for kind in self._kinds:
            for path in _old_files(kind, limit, failures):
                try:
                    path.unlink(missing_ok=True)
                    files[kind.noun] = files.get(kind.noun, 0) + 1
                except OSError as error:
                    failures.append(f"{path}: cannot be deleted ({error.strerror}); delete it by hand")
        return Deleted(self._days, files, self._delete_events(limit, failures), tuple(failures))

    def _delete_events(self, limit: datetime, failures: list[str]) -> int:
        events = 0
        for forget in self._forget:
            try:
                events += forget(limit)
            except Exception as error:  # a locked or broken store must not end the watch
                failures.append(f"events before {limit:%Y-%m-%d %H:%M} cannot be deleted ({error})")
        return events


def _old_files(kind: Kept, limit: datetime, failures: list[str]) -> Iterator[Path]:
    try:
        paths = sorted(kind.folder.iterdir()) if kind.folder.is_dir() else []
    except OSError as error:
        failures.append(f"{kind.folder}: cannot be listed ({error.strerror}); check its permissions")
        return
    for path in paths:
        match = kind.names.fullmatch(path.name)
        if match is None:
            continue
        try:
            written = _written(path, match)
            if written is not None and written < limit and _is_ours(path, kind):
                yield path
        except OSError as error:
            failures.append(f"{path}: cannot be read ({error.strerror}); check its permissions")


def _written(path: Path, match: re.Match[str]) -> datetime | None:
    """When a file of ours was written; None for one that cannot be ours."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        return None
    stamp = match.groupdict().get("stamp")
    if stamp is None:
        return datetime.fromtimestamp(about.st_mtime, UTC)
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:  # eight digits that are no date
        return None


def _is_ours(path: Path, kind: Kept) -> bool:
    with path.open("rb") as file:
        data = file.read(_BLOCK if kind.lines else len(kind.head))
    return data.startswith(kind.head) or (kind.lines and b"\n" + kind.head in data)

"""Deletes old thumbnails, clips, recordings, rotated logs and events that watching has stored."""

from __future__ import annotations

import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from maskwatch import hard_cases
from maskwatch.errors import OptionError
from maskwatch.live.output import clips, thumbnails
from maskwatch.live.output.recorder import part_pattern
from maskwatch.live.sinks.jsonl import LINE_START
from maskwatch.outputs import STAMP
from maskwatch.text import plural

EVERY = timedelta(hours=1)
"""`Retention.run` does nothing within this time of its last run."""

# A part of a recording is an hour long and named after its beginning: one that is being written is younger.
_SHORTEST_DAYS = 0.1
_LONGEST_DAYS = 36_500.0
_BLOCK = 1 << 16


@dataclass(frozen=True)
class RetentionRule:
    """A kind of file that is deleted once it is old.

    Attributes:
        noun: for messages, in the singular.
        folder: of the files; its subfolders are left alone.
        names: matches the whole name. A group `stamp` is the time of the file (UTC); without it, the last
            change of the file counts.
        head: the first bytes of each file.
        lines: the files consist of lines that begin with `head`; the first line may be damaged.
        spares: files that stay, however old.
    """

    noun: str
    folder: Path
    names: re.Pattern[str]
    head: bytes = b""
    lines: bool = False
    spares: Callable[[Path], bool] = lambda path: False


def thumbnail_rule(folder: Path) -> RetentionRule:
    """The pictures of `Thumbnails(folder)`."""
    return RetentionRule("picture", folder, thumbnails.NAMES, b"\xff\xd8\xff")


def clip_rule(folder: Path) -> RetentionRule:
    """The files of `AlertClips` in a folder. An MP4 begins with the length of its first box, 32 bits."""
    return RetentionRule("clip", folder, clips.NAMES, b"\0\0\0")


def hard_case_rules(folder: Path) -> list[RetentionRule]:
    """The pictures and annotations of a `HardCaseStore`; those that a person labelled stay."""
    names, spares = hard_cases.NAMES, hard_cases.is_labelled
    return [
        RetentionRule("hard case", folder, names, b"\xff\xd8\xff", spares=spares),
        RetentionRule("proposal", folder, names, b"<annotation", spares=spares),
    ]


def recording_rule(path: Path) -> RetentionRule:
    """The parts of `Recorder(path, …, part_s=PART_S)`."""
    return RetentionRule("recording", path.parent, part_pattern(path))


def log_rule(path: Path) -> RetentionRule:
    """The rotated files `events.jsonl.1`, `.2` and so on; `events.jsonl` itself is still written to."""
    names = re.compile(re.escape(path.name) + r"\.\d+", re.ASCII)
    return RetentionRule("log", path.parent, names, LINE_START, lines=True)


@dataclass(frozen=True)
class RetentionReport:
    """What a run has deleted.

    Attributes:
        days: age limit.
        deleted: number of files by `RetentionRule.noun`, and of events by "event".
        failures: one line for each that could not be deleted, with the reason.
    """

    days: float
    deleted: Counter[str]
    failures: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a log; empty when nothing was old enough."""
        parts = [plural(count, noun) for noun, count in self.deleted.items() if count]
        done = f"deleted what is older than {self.days:g} days: {', '.join(parts)}" if parts else ""
        return "; ".join(filter(None, (done, *self.failures)))


class Retention:
    """Keeps files and events for some days only.

    It deletes regular files that a rule matches by folder, name and first bytes: never a link, a folder or a
    file of another program.

    Args:
        days: age limit.
        rules: the files.
        delete_events: as `EventStore.delete_before`.

    Raises:
        OptionError: `days` is out of range.
    """

    def __init__(
        self,
        days: float,
        rules: Sequence[RetentionRule],
        delete_events: Sequence[Callable[[datetime], int]] = (),
    ) -> None:
        if not math.isfinite(days) or not _SHORTEST_DAYS <= days <= _LONGEST_DAYS:
            raise OptionError(
                f"--retain {days:g}: things are kept for {_SHORTEST_DAYS:g} to {_LONGEST_DAYS:g} days; "
                "write for example --retain 30"
            )
        self._days, self._rules, self._delete_events = days, tuple(rules), tuple(delete_events)
        self._ran: datetime | None = None

    def run(self, now: datetime) -> RetentionReport | None:
        """Deletes what is too old at `now` (with time zone); None if the last run was less than an hour ago.

        The report lists what cannot be deleted, and the next run tries again. It raises no error, since
        watching continues.
        """
        if self._ran is not None and timedelta(0) <= now - self._ran < EVERY:
            return None
        self._ran = now
        limit = now - timedelta(days=self._days)
        deleted, failures = Counter[str](), list[str]()
        for rule in self._rules:
            for path in _old_files(rule, limit, failures):
                try:
                    path.unlink(missing_ok=True)
                    deleted[rule.noun] += 1
                except OSError as error:
                    failures.append(f"{path}: cannot be deleted ({error.strerror}); delete it by hand")
        for delete_before in self._delete_events:
            try:
                deleted["event"] += delete_before(limit)
            except Exception as error:  # a locked or broken store must not end the watching
                failures.append(f"events before {limit:%Y-%m-%d %H:%M} cannot be deleted ({error})")
        return RetentionReport(self._days, deleted, tuple(failures))


def _old_files(rule: RetentionRule, limit: datetime, failures: list[str]) -> Iterator[Path]:
    try:
        paths = sorted(rule.folder.iterdir()) if rule.folder.is_dir() else []
    except OSError as error:
        failures.append(f"{rule.folder}: cannot be listed ({error.strerror}); check its permissions")
        return
    for path in paths:
        match = rule.names.fullmatch(path.name)
        if match is None:
            continue
        try:
            written = _written(path, match)
            if written is not None and written < limit and _matches(path, rule) and not rule.spares(path):
                yield path
        except OSError as error:
            failures.append(f"{path}: cannot be read ({error.strerror}); check its permissions")


def _written(path: Path, match: re.Match[str]) -> datetime | None:
    """When a file was written; None if maskwatch cannot have written it."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        return None
    stamp = match.groupdict().get("stamp")
    if stamp is None:
        return datetime.fromtimestamp(about.st_mtime, UTC)
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:  # eight digits that are not a date
        return None


def _matches(path: Path, rule: RetentionRule) -> bool:
    with path.open("rb") as file:
        data = file.read(_BLOCK if rule.lines else len(rule.head))
    return data.startswith(rule.head) or (rule.lines and b"\n" + rule.head in data)

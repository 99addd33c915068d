"""Near-duplicates of a project: which picture resembles an earlier one."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from maskwatch.label.annotation import short_hash
from maskwatch.label.background import start_background
from maskwatch.label.project import LabelPicture
from maskwatch.label.store import stamp_of
from maskwatch.outputs import durable_write

_KINDS = ("same", "near")  # mirrored or cropped pictures need boxes of their own
_STOP_S = 5.0  # comparing thousands of pictures takes longer, and ends with the process


class DuplicateFinder:
    """Looks for near-duplicates in a thread, once for a set of pictures.

    Args:
        pictures: in the order of their names; the first of a group is the one to label.
        cache: file of what was found before; None keeps nothing.
        on_found: is called in the thread at the end.
        wait: is called before each picture.
    """

    def __init__(
        self,
        pictures: Sequence[LabelPicture],
        cache: Path | None,
        on_found: Callable[[], None],
        wait: Callable[[], None],
    ) -> None:
        self._pictures, self._cache, self._on_found, self._wait = pictures, cache, on_found, wait
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.left = len(pictures)
        self.duplicate_of: dict[str, str] = {}

    def start(self) -> None:
        """Starts the thread."""
        self._thread = start_background("near-duplicates", self._work)

    def stop(self) -> None:
        """Ends the thread; what it has not found is looked for again next time."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _work(self) -> None:
        stamps = [[picture.image_id, stamp_of(picture.path)] for picture in self._pictures]
        key = short_hash(json.dumps(stamps).encode())
        found = self._cached(key)
        if found is None:
            found = self._search()
            if found is None:
                return
            if self._cache is not None:
                with contextlib.suppress(OSError):  # it is found again next time
                    durable_write(self._cache, json.dumps({"key": key, "duplicate_of": found}).encode())
        self.duplicate_of, self.left = found, 0
        self._on_found()

    def _cached(self, key: str) -> dict[str, str] | None:
        try:
            kept = json.loads(self._cache.read_bytes()) if self._cache is not None else {}
            return dict(kept["duplicate_of"]) if kept.get("key") == key else None
        except (OSError, ValueError, KeyError, AttributeError):
            return None

    def _search(self) -> dict[str, str] | None:
        """Name → name of the first picture of its group; None if it was stopped."""
        from maskwatch.data.quality.duplicates import find_duplicates, groups
        from maskwatch.data.quality.probe import probe_image

        prints = []
        for number, picture in enumerate(self._pictures):
            if self._stopping.is_set():
                return None
            self._wait()
            self.left = len(self._pictures) - number
            prints.append(probe_image(picture.path).fingerprint)
        pairs = [(one.first, one.second) for one in find_duplicates(prints) if one.kind in _KINDS]
        return {
            self._pictures[other].image_id: self._pictures[first].image_id
            for first, *others in groups(len(prints), pairs)
            for other in others
        }

"""The place between a source's thread and whoever takes its frames: it holds one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """One item at most, so that memory stays flat and nothing grows old in a queue.

    Args:
        keep_all: `put` waits until the last item has been taken, instead of replacing it.
        on_put: called after each item, in the thread that put it.
    """

    def __init__(self, *, keep_all: bool, on_put: Callable[[], None]) -> None:
        self._keep_all = keep_all
        self._on_put = on_put
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Leaves an item; when the mailbox is closed, it is lost. Gives the one that it replaces."""
        with self._changed:
            if self._keep_all:
                self._changed.wait_for(lambda: self._item is None or self._closed)
            replaced = self._item
            self._item = None if self._closed else item
            self._changed.notify_all()
        self._on_put()
        return replaced

    def take(self, timeout_s: float = 0.0) -> T | None:
        """The item, waited for up to `timeout_s` seconds; None when there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is not None or self._closed, timeout_s)
            item, self._item = self._item, None
            self._changed.notify_all()
        return item

    def full(self) -> bool:
        """Whether an item waits."""
        return self._item is not None

    def wait_taken(self) -> None:
        """Returns when the last item has been taken, or the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._item is None or self._closed)

    def close(self) -> None:
        """Forgets the item and ends all waiting."""
        with self._changed:
            self._closed = True
            self._item = None
            self._changed.notify_all()

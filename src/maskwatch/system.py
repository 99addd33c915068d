"""The resources of this machine, and their use by threads."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """Number of CPU cores that this process may use; all of them where the system does not tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def cpu_name() -> str:
    """The CPU's name, and a short hash of its instruction sets where the system lists them.

    In virtual machines, CPUs of several generations have one name.
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
        fields = dict(re.findall(r"^([^\t:]+?)\s*: *(.*)$", text, flags=re.MULTILINE))
        flags = fields.get("flags") or fields.get("Features") or ""
        name = fields.get("model name") or platform.machine()
        return f"{name} {hashlib.sha256(flags.encode()).hexdigest()[:8]}"
    return platform.processor() or platform.machine()


def cache_folder() -> Path:
    """`$MASKWATCH_CACHE`, else `$XDG_CACHE_HOME/maskwatch`: converted checkpoints, copies of data sets."""
    if own := os.environ.get("MASKWATCH_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "maskwatch"


# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Lets this process and its later children keep the memory that they free; returns whether it could.

    Otherwise glibc asks the system for every block of more than 32 MB, which clears each page of it at the
    first touch. For the large maps of a training that is several times the time of the arithmetic on them.
    Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20))
    return all(mallopt(*setting) == 1 for setting in settings)


def in_order(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    threads: int,
    may_start: Callable[[_Item], bool] = lambda item: True,
) -> Iterator[tuple[_Item, Callable[[], _Result]]]:
    """Computes the results of the next items in threads while the caller uses the last one.

    Args:
        threads: at most so many results are finished or in work beside the one in use.
        may_start: whether an item may be computed before its turn; otherwise its call computes it.

    Yields:
        Each item, in order, and a call that returns its result or raises its error.
    """
    if len(items) < 2:  # no thread, which one picture does not need
        yield from ((item, partial(function, item)) for item in items)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[_Item, Callable[[], _Result]]] = deque()
    try:
        for item in items:
            call = pool.submit(function, item).result if may_start(item) else partial(function, item)
            waiting.append((item, call))
            if len(waiting) > threads:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)

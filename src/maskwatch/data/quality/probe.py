"""Probes image files: decodes each once, on all cores, and keeps what a check needs of it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from maskwatch.data.quality.fingerprints import SMALL_SIDE, Fingerprint, fingerprint
from maskwatch.errors import ImageError, OptionError
from maskwatch.media.formats import ImageMetadata
from maskwatch.media.images import UInt8Array, read_reduced
from maskwatch.system import usable_cores
from maskwatch.text import reason_of

MAX_FILE_BYTES = 1 << 30
"""Larger files are not read: 200 megapixels without any compression are 600 MB."""

BLANK_LEVELS = 2
"""A picture is blank when no channel spans more levels than this; JPEG does not keep a colour exactly."""

_CHUNK = 16  # pictures that a worker takes at a time
_FEW = 4 * _CHUNK  # below that, starting the workers takes longer than the work

ProbeProgress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageProbe:
    """What one file is.

    Attributes:
        path: as given.
        reason: None if readable, else what is wrong and what to do, without the path.
        size_hw: height and width as shown, pixels; (0, 0) if unreadable.
        orientation: EXIF orientation, 1 to 8; 1 is none.
        fingerprint: None if unreadable.
        blank: the picture is of a single colour.
    """

    path: Path
    reason: str | None = None
    size_hw: tuple[int, int] = (0, 0)
    orientation: int = 1
    fingerprint: Fingerprint | None = None
    blank: bool = False

    @property
    def readable(self) -> bool:
        return self.reason is None

    @property
    def metadata(self) -> ImageMetadata:
        return ImageMetadata(self.size_hw, self.orientation)


class ProbeImages(Protocol):
    """`probe_images`, or the same on a cluster."""

    def __call__(
        self, paths: Sequence[Path], workers: int | None = None, progress: ProbeProgress | None = None, /
    ) -> list[ImageProbe]: ...


def probe_images(
    paths: Sequence[Path], workers: int | None = None, progress: ProbeProgress | None = None
) -> list[ImageProbe]:
    """Decodes every image and returns its probe, in the order of `paths`.

    Runs in processes, since decoding holds Python's lock. They are not forked, so a script that calls this
    needs `if __name__ == "__main__":`. A file that kills its process is reported as unreadable.

    Args:
        paths: image files; a missing one is reported as unreadable too.
        workers: number of processes; 1 is this one; None is one a core, and this one for few images.
        progress: called with the number of images done and of all.

    Raises:
        OptionError: `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise OptionError(f"{workers} workers cannot read pictures; give 1 or more")
    if workers is None:
        workers = 1 if len(paths) < _FEW else usable_cores()
    return _run(paths, probe_image, workers, progress or (lambda done, total: None))


def probe_image(path: Path) -> ImageProbe:
    """The probe of one file; raises nothing for a broken one."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):  # opening a pipe would block
            if status.st_size > MAX_FILE_BYTES:
                size = f"{status.st_size / (1 << 30):.1f} GiB"
                return ImageProbe(path, f"{size} are too much for a picture; scale it down, or remove it")
        elif not stat.S_ISDIR(status.st_mode):
            return ImageProbe(path, "this is not a regular file; put a picture file there, or remove it")
        image, (size_hw, orientation) = read_reduced(path, SMALL_SIDE)
        found = fingerprint(image, size_hw)
        return ImageProbe(path, None, size_hw, orientation, found, _is_blank(image, found))
    except ImageError as error:
        return ImageProbe(path, str(error).removeprefix(f"{path}: "))
    except FileNotFoundError:
        return ImageProbe(path, "no such file; check the path")
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        return ImageProbe(path, f"cannot be read ({reason_of(error)}); check its permissions")
    except (MemoryError, cv2.error) as error:
        return ImageProbe(path, f"cannot be worked on ({error or 'no memory'}); scale it down")


def _is_blank(image_rgb: UInt8Array, found: Fingerprint) -> bool:
    if int(np.ptp(found.thumb)) > BLANK_LEVELS:  # cheap, and true of nearly all pictures
        return False
    pixels = image_rgb.reshape(-1, 3)  # (H·W, 3)
    return bool((pixels.max(0).astype(int) - pixels.min(0)).max() <= BLANK_LEVELS)


Probe: TypeAlias = Callable[[Path], ImageProbe]


def _run(paths: Sequence[Path], probe: Probe, workers: int, progress: ProbeProgress) -> list[ImageProbe]:
    done: list[ImageProbe] = []
    for result in map(probe, paths) if workers == 1 else _in_processes(paths, probe, workers):
        done.append(result)
        progress(len(done), len(paths))
    return done


def _in_processes(paths: Sequence[Path], probe: Probe, workers: int) -> Iterator[ImageProbe]:
    done = 0
    while done < len(paths):
        with _pool(workers) as pool:
            try:
                for result in pool.map(probe, paths[done:], chunksize=_CHUNK):
                    yield result
                    done += 1
            except BrokenProcessPool:
                pass
        if done < len(paths):  # each of the next pictures in its own process, to find the one that kills it
            yield from (_alone(path, probe) for path in paths[done : done + _CHUNK])
            done += _CHUNK


def _alone(path: Path, probe: Probe) -> ImageProbe:
    with _pool(1) as pool:
        try:
            return pool.submit(probe, path).result()
        except BrokenProcessPool:
            reason = "reading it ended the process (broken, or no memory); replace it or remove it"
            return ImageProbe(path, reason)


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block; queued work is cancelled."""
    # A fork of this process would keep the locks of its threads (OpenCV, PyTorch).
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])  # imported once, not once a worker; no effect on "spawn"
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)  # the processes are the threads

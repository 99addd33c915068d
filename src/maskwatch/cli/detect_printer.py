"""The output of `maskwatch detect`: lines, a progress bar on a terminal, and a table at the end."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from maskwatch.boxes import AnyDetections
from maskwatch.text import plural


@dataclass
class VideoCounts:
    """Sums up the frames of one video; `most` is the largest number of faces in a frame."""

    name: str
    frames: int = 0
    most: int = 0
    faces: Counter[str] = field(default_factory=Counter)

    def add(self, faces: Counter[str]) -> None:
        self.frames += 1
        self.faces += faces
        self.most = max(self.most, faces.total())


class DetectPrinter:
    """Prints results as they come; a context manager around the work.

    Args:
        model: name and size, printed first and last.
        class_names: rows of the table.
        to_stderr: True if records go to standard output.
        total: number of sources, for the progress bar; 0 for none.
    """

    def __init__(self, model: str, class_names: Sequence[str], *, to_stderr: bool, total: int) -> None:
        self._model = f"model: {model}"
        self._console = Console(stderr=to_stderr, highlight=False)
        self._progress = self._bar(total)
        self._task = self._progress.add_task("", total=total)
        self._faces: Counter[str] = Counter(dict.fromkeys(class_names, 0))
        self._images: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self.failures = 0

    def __enter__(self) -> DetectPrinter:
        self._line(self._model)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def source(self, name: str) -> Iterator[None]:
        """Shows a source in the progress bar during the block."""
        self._progress.update(self._task, description=name[-40:])
        yield
        self._progress.advance(self._task)

    @contextmanager
    def video_progress(self, duration_s: float | None) -> Iterator[Callable[[float], None]]:
        """A second bar, for the seconds of a video, since few files know their frame count.

        Gives a function that sets the bar to a time.
        """
        task = self._progress.add_task("seconds", total=None if duration_s is None else math.ceil(duration_s))
        try:
            yield lambda time_s: self._progress.update(task, completed=int(time_s))
        finally:
            self._progress.remove_task(task)

    def picture(self, name: str, detections: AnyDetections) -> None:
        """Counts a picture and prints its line."""
        self.counted_picture(name, self.count(detections))

    def counted_picture(self, name: str, faces: Counter[str]) -> None:
        """Prints the line of a picture, after its faces have been counted."""
        self._seen["picture"] += 1
        self._line(f"{name}: {self._listed(faces)}")

    def add_totals(
        self, faces: Counter[str], images: Counter[str], kinds: Counter[str], failures: int
    ) -> None:
        """Adds what was counted elsewhere: faces and images by class, sources by kind."""
        self._faces.update(faces)
        self._images.update(images)
        self._seen.update(kinds)
        self.failures += failures

    def video(self, counts: VideoCounts) -> None:
        """Prints the line of a video, after `count` of each frame."""
        self._seen["video"] += 1
        most = f", at most {counts.most} at once" if counts.most else ""
        self._line(f"{counts.name}: {plural(counts.frames, 'frame')}: {self._listed(counts.faces)}{most}")

    def count(self, detections: AnyDetections) -> Counter[str]:
        """Adds the detections of one picture or frame to the table; returns their number by class."""
        return self.count_names(str(name) for name in detections.data["class_name"])

    def count_names(self, names: Iterable[str]) -> Counter[str]:
        """As `count`, with the class of each face."""
        faces = Counter(names)
        self._faces.update(faces)
        self._images.update(faces.keys())
        return faces

    def failure(self, message: str) -> None:
        """Reports a skipped source on standard error."""
        self.failures += 1
        print(f"skipped: {message}", file=sys.stderr)

    def table(self) -> None:
        """Prints the counts of all sources together."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("class", no_wrap=True)
        table.add_column("found", justify="right")
        table.add_column("images with it", justify="right")
        for name, count in self._faces.items():
            table.add_row(name, str(count), str(self._images[name]))
        self._console.print()
        self._console.print(table)
        parts = [plural(count, kind) for kind, count in self._seen.items()]
        self._console.print(", ".join([*(parts or ["nothing done"]), f"{self.failures} skipped"]))
        self._line(self._model)

    def _listed(self, faces: Counter[str]) -> str:
        return ", ".join(f"{faces[name]} {name}" for name in self._faces if faces[name]) or "nothing found"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _bar(self, total: int) -> Progress:
        # On standard error if the lines go to a pipe.
        console = self._console if self._console.is_terminal else Console(stderr=True)
        return Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not total or not console.is_terminal,
            redirect_stdout=console.is_terminal and sys.stdout.isatty(),
            redirect_stderr=console.is_terminal and sys.stderr.isatty(),
        )

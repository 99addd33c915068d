"""What is stored of the pictures, when it was asked for: recordings and thumbnails that may fail alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType

from maskwatch.errors import OutputError
from maskwatch.live.events import Event
from maskwatch.live.output.drawing import draw_people
from maskwatch.live.output.recorder import Recorder
from maskwatch.live.output.thumbnails import Thumbnails
from maskwatch.live.tracking.results import FrameResult, Observer, Person
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import UInt8Array

Trouble = Callable[[str, str], None]


class Recording(Observer):
    """Records every source, boxes drawn; a context manager that closes the files.

    A recorder that cannot write (a full disk) is closed and told of; watching goes on.

    Args:
        recorders: by source.
        places: by source, to draw them.
        class_names: in the order of their ids.
        on_trouble: takes the name of what failed, and why.
    """

    def __init__(
        self,
        recorders: Mapping[str, Recorder],
        places: Mapping[str, Zones],
        class_names: Sequence[str],
        on_trouble: Trouble,
    ) -> None:
        self._recorders, self._places, self._names = dict(recorders), places, class_names
        self._on_trouble = on_trouble

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for source in list(self._recorders):
            self._try(source, self._recorders.pop(source).close)

    def on_frame(self, result: FrameResult) -> None:
        source = result.frame.source
        recorder = self._recorders.get(source)
        if recorder is None:
            return
        draw = self._drawing(source, result.scene.people)
        faces, tracks = result.faces, result.scene.tracks
        add = partial(recorder.add, result.frame, faces.boxes_xyxy, tracks, sure=faces.confident, draw=draw)
        if not self._try(source, add):
            del self._recorders[source]
            self._try(source, recorder.close, quiet=True)

    def _drawing(self, source: str, people: Sequence[Person]) -> Callable[[UInt8Array], UInt8Array]:
        return lambda image_rgb: draw_people(image_rgb, people, self._names, self._places.get(source))

    def _try(self, source: str, step: Callable[[], None], *, quiet: bool = False) -> bool:
        try:
            step()
        except OutputError as error:
            if not quiet:
                self._on_trouble(f"video of {source}", f"{error}; recording has ended, watching goes on")
            return False
        return True


class Pictures(Observer):
    """Stores a thumbnail of each alert; one that cannot be written is told of and left out of its event."""

    def __init__(self, thumbnails: Thumbnails, on_trouble: Trouble) -> None:
        self._thumbnails, self._on_trouble = thumbnails, on_trouble

    def on_frame(self, result: FrameResult) -> None:
        faces = result.faces
        self._thumbnails.look(result.frame, faces.boxes_xyxy, result.scene.tracks, sure=faces.confident)

    def store(self, event: Event, result: FrameResult) -> str | None:
        """The path of the picture of an alert; None where it could not be written."""
        faces, tracks = result.faces, result.scene.tracks
        try:
            path = self._thumbnails.store(event, result.frame, faces.boxes_xyxy, tracks, sure=faces.confident)
        except OutputError as error:
            self._on_trouble("thumbnails", str(error))
            return None
        return str(path)

"""What is seen of each source right now, for whoever looks; and the last events."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from maskwatch.drawing.blur import blur
from maskwatch.drawing.privacy_mask import Boxes
from maskwatch.live.events import Event
from maskwatch.live.output.drawing import draw_notice, draw_people
from maskwatch.live.output.face_hider import FaceHider
from maskwatch.live.tracking.results import FrameResult, Observer, Person
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import UInt8Array
from maskwatch.serve.core.prediction import encode

KEPT_EVENTS = 50
_BLANK_SHAPE = (360, 640, 3)


@dataclass(eq=False)
class View:
    """A frame that has been looked at, and who was in it.

    Attributes:
        image_rgb: uint8 (H, W, 3).
        hidden_xyxy: (N, 4), what is blurred before anybody sees it; None blurs nothing.
        seen_at: when it was seen, on the wall clock; None where nothing has been seen yet.
        notice: lines that say why nothing newer is there, drawn over it.
    """

    image_rgb: UInt8Array
    people: Sequence[Person]
    hidden_xyxy: Boxes | None
    places: Zones
    class_names: Sequence[str]
    seen_at: datetime | None = None
    notice: Sequence[str] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _jpeg: bytes | None = field(default=None, init=False, repr=False)

    def jpeg(self) -> bytes:
        """The drawn picture; made once, however many look, and only if somebody does."""
        with self._lock:
            if self._jpeg is None:
                image_rgb = self.image_rgb
                if self.hidden_xyxy is not None:
                    image_rgb = blur(image_rgb, self.hidden_xyxy)
                drawn = draw_people(image_rgb, self.people, self.class_names, self.places)
                self._jpeg = encode(draw_notice(drawn, self.notice) if self.notice else drawn, "jpeg")
            return self._jpeg


class News:
    """Wakes those who wait in an event loop, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._came = asyncio.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop in which is waited."""
        self._loop = loop

    def tell(self) -> None:
        """Something is new."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def next(self) -> asyncio.Event:
        """Is set when something new is told; ask for it before looking, so that nothing is missed."""
        return self._came

    def _wake(self) -> None:
        came, self._came = self._came, asyncio.Event()
        came.set()


class Views(Observer):
    """The newest view of each source and the last events. Written by the watching thread, read by any.

    Args:
        places: by source.
        class_names: in the order of their ids.
        keep_faces: True hides none.
    """

    def __init__(self, places: Mapping[str, Zones], class_names: Sequence[str], *, keep_faces: bool) -> None:
        self.news = News()
        self._places, self._names = places, class_names
        self._hider = None if keep_faces else FaceHider()
        self._newest: dict[str, View] = {}
        self._gone: dict[str, Counter[str]] = {source: Counter() for source in places}
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._told = 0

    def on_frame(self, result: FrameResult) -> None:
        source, people = result.frame.source, result.scene.people
        self._note_who_left(source, people)
        self._newest[source] = View(
            result.frame.image_rgb,
            people,
            self._hidden(result),
            self._places[source],
            self._names,
            seen_at=result.frame.when,
        )
        self.news.tell()

    def on_event(self, event: Event) -> None:
        if event.kind == "source" and event.state != "live":
            self._lose(event)
        self._events.append(event)
        self._told += 1
        self.news.tell()

    def newest(self, source: str) -> View | None:
        """The newest view of a source; None before the first frame."""
        return self._newest.get(source)

    def counts(self, source: str) -> dict[str, int]:
        """People since the start, by the state that they have or had last."""
        view = self._newest.get(source)
        there = Counter(str(one.state) for one in view.people if one.state is not None) if view else Counter()
        return {name: self._gone[source][name] + there[name] for name in self._names}

    def events(self, told: int | None = None) -> tuple[list[Event], int]:
        """The last events, those after the first `told` of all; and how many there have been in all."""
        events, total = list(self._events), self._told
        return (events if told is None else events[max(0, len(events) - (total - told)) :]), total

    def told_before(self, event_id: str | None) -> int:
        """How many had been told when this one had; all but the kept ones if it is not known."""
        events, total = self.events()
        for place, event in enumerate(events):
            if event.id == event_id:
                return total - len(events) + place + 1
        return total if event_id is None else total - len(events)

    def _note_who_left(self, source: str, people: Sequence[Person]) -> None:
        before = self._newest.get(source)
        if before is not None:
            still = {person.track for person in people}
            left = [person for person in before.people if person.track not in still]
            self._gone[source].update(str(person.state) for person in left if person.state is not None)

    def _lose(self, event: Event) -> None:
        """Nobody is in front of a source that is lost, and its last picture says that it is old."""
        source = event.source
        self._note_who_left(source, ())
        before = self._newest.get(source)
        if before is None:
            before = View(np.zeros(_BLANK_SHAPE, np.uint8), (), None, Zones(), self._names)
        since = "" if before.seen_at is None else f", last picture {before.seen_at:%H:%M:%S}"
        notice = [f"{event.state}{since}", *([event.reason] if event.reason else [])]
        self._newest[source] = replace(before, people=(), notice=notice)

    def _hidden(self, result: FrameResult) -> Boxes | None:
        return None if self._hider is None else self._hider.boxes_to_hide(result)

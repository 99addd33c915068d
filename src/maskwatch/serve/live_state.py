"""The live state of what is watched: the newest frame of each source, counts, and the last events."""

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
from maskwatch.serve.core.prediction import encode_image

KEPT_EVENTS = 50
_BLANK_SHAPE = (360, 640, 3)


@dataclass(eq=False)
class AnnotatedFrame:
    """A frame and the people in it; drawn on demand.

    Attributes:
        image_rgb: uint8 (H, W, 3).
        hidden_xyxy: (N, 4), blurred in what is shown; None blurs nothing.
        seen_at: wall-clock time of the frame; None for the blank frame before the first one.
        notice: lines drawn over it: why there is no newer frame.
    """

    image_rgb: UInt8Array
    people: Sequence[Person]
    hidden_xyxy: Boxes | None
    zones: Zones
    class_names: Sequence[str]
    seen_at: datetime | None = None
    notice: Sequence[str] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _jpeg: bytes | None = field(default=None, init=False, repr=False)

    def jpeg(self) -> bytes:
        """The annotated picture; made once, when the first client asks for it."""
        with self._lock:
            if self._jpeg is None:
                image_rgb = self.image_rgb
                if self.hidden_xyxy is not None:
                    image_rgb = blur(image_rgb, self.hidden_xyxy)
                drawn = draw_people(image_rgb, self.people, self.class_names, self.zones)
                self._jpeg = encode_image(draw_notice(drawn, self.notice) if self.notice else drawn, "jpeg")
            return self._jpeg


class Notifier:
    """Wakes the tasks of an event loop that wait for a change, from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the loop whose tasks wait."""
        self._loop = loop

    def notify(self) -> None:
        """Something has changed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def next_change(self) -> asyncio.Event:
        """Is set at the next change; get it before reading the state, so that no change is missed."""
        return self._changed

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class LiveState(Observer):
    """The newest frame of each source and the last events. Written by the watching thread, read by any.

    Args:
        zones: by source.
        class_names: in the order of their ids.
        keep_faces: True blurs none.
    """

    def __init__(self, zones: Mapping[str, Zones], class_names: Sequence[str], *, keep_faces: bool) -> None:
        self.notifier = Notifier()
        self._zones, self._names = zones, class_names
        self._hider = None if keep_faces else FaceHider()
        self._newest: dict[str, AnnotatedFrame] = {}
        self._left: dict[str, Counter[str]] = {source: Counter() for source in zones}
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._event_count = 0

    def on_frame(self, result: FrameResult) -> None:
        source, people = result.frame.source, result.scene.people
        self._count_left(source, people)
        self._newest[source] = AnnotatedFrame(
            result.frame.image_rgb,
            people,
            None if self._hider is None else self._hider.boxes_to_hide(result),
            self._zones[source],
            self._names,
            seen_at=result.frame.when,
        )
        self.notifier.notify()

    def on_event(self, event: Event) -> None:
        if event.kind == "source" and event.state != "live":
            self._mark_lost(event)
        self._events.append(event)
        self._event_count += 1
        self.notifier.notify()

    def newest(self, source: str) -> AnnotatedFrame | None:
        """The newest frame of a source; None before the first one."""
        return self._newest.get(source)

    def counts(self, source: str) -> dict[str, int]:
        """People since the start, by their last state; without those still undecided."""
        frame = self._newest.get(source)
        present = Counter(str(one.state) for one in (frame.people if frame else ()) if one.state is not None)
        return {name: self._left[source][name] + present[name] for name in self._names}

    def events(self, cursor: int | None = None) -> tuple[list[Event], int]:
        """The kept events after a cursor, all for None; and the cursor after them."""
        events, count = list(self._events), self._event_count
        return (events if cursor is None else events[max(0, len(events) - (count - cursor)) :]), count

    def cursor_after(self, event_id: str | None) -> int:
        """The cursor after that event: after all for None, before the kept ones if the event is unknown."""
        events, count = self.events()
        for index, event in enumerate(events):
            if event.id == event_id:
                return count - len(events) + index + 1
        return count if event_id is None else count - len(events)

    def _count_left(self, source: str, people: Sequence[Person]) -> None:
        before = self._newest.get(source)
        if before is not None:
            still = {person.track for person in people}
            left = [person for person in before.people if person.track not in still]
            self._left[source].update(str(person.state) for person in left if person.state is not None)

    def _mark_lost(self, event: Event) -> None:
        """Removes the people of a source that is lost and draws the reason over its last frame."""
        source = event.source
        self._count_left(source, ())
        before = self._newest.get(source)
        if before is None:
            before = AnnotatedFrame(np.zeros(_BLANK_SHAPE, np.uint8), (), None, Zones(), self._names)
        since = "" if before.seen_at is None else f", last picture {before.seen_at:%H:%M:%S}"
        notice = [f"{event.state}{since}", *([event.reason] if event.reason else [])]
        self._newest[source] = replace(before, people=(), notice=notice)

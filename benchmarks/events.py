"""Events found, false events and identity switches, on streams whose truth is known.

    python benchmarks/events.py --data ../shared/data/masks/val
    python benchmarks/events.py --data ../shared/data/masks/val --choose

A stream is twenty seconds of a script: people who stand, walk by or approach, a camera that pans and zooms,
states that change, hands in front of mouths, people hidden by a pillar or by each other, frames that are
missing or blurred. It is played on three levels. "rendered": heads cut out of the photographs are pasted onto
blurred ones, and the model analyses every frame. "simulated": detections are sampled from those of the faces
in the same photographs, with the same scatter from frame to frame; this is much faster. "of a perfect model":
the same streams with a model that is never wrong.

Pictures with an even index are for choosing settings (--choose prints each one that was tried), those with an
odd index for the report. The output is a Markdown table for docs/people.md.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import supervision as sv
from command import head, parser_of, row, run
from stream_levels import MATCH_IOU, Shot, Stream, perfect, read_gallery, rendered, simulated
from stream_scripts import Boxes

from maskwatch.data import read_data
from maskwatch.labels import ClassMap
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.tracking.faces import FaceFinder
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.models import ModelMetadata

SURE_S = 1.5
"""An alerting state must last this much longer than the dwell for an event to be due."""
LEAST_SEEN = 0.7
"""The person must be in sight in this share of the frames."""
GRACE_S = 1.5
"""An event is correct if the person was in its state within this time before it."""
LEAST_GAIN = 2
"""A setting stays unless another one costs less by this much; less is chance."""
START = datetime(2025, 1, 1, 12, tzinfo=UTC)


@dataclass
class Score:
    """Sums over streams. `due`: expected events; `repeated`: further events for a state that had one."""

    due: int = 0
    found: int = 0
    wrong: int = 0
    repeated: int = 0
    switches: int = 0
    people: int = 0
    counted: int = 0
    delays_s: list[float] = field(default_factory=list)

    @property
    def cost(self) -> int:
        return self.due - self.found + self.wrong + self.repeated + self.switches

    def __add__(self, other: Score) -> Score:
        return Score(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


Call = tuple[float, int, Boxes]
"""An event for `judge`: when, class id, where."""


def judge(stream: Stream, calls: Sequence[Call], alarming: frozenset[int], dwell_s: float) -> Score:
    """Compares events with the truth; events for a state too short to be due are neither right nor wrong."""
    score = Score()
    dues = {}
    for index, actor in enumerate(stream.script.actors):
        for number, (begin, end, share) in enumerate(_lasting(stream, index)):
            lasts = end - begin >= dwell_s + SURE_S and share >= LEAST_SEEN
            if actor.states[number][1] in alarming and lasts:
                dues[index, number] = begin
                break  # after the first the person has a cooldown
    score.due = len(dues)
    reported: set[tuple[int, int]] = set()
    times = np.array([shot.time_s for shot in stream.shots])
    for time_s, class_id, box in calls:
        shot = stream.shots[int(np.abs(times - time_s).argmin())]
        match = _whose(stream, shot, box, class_id)
        if match is None:
            score.wrong += 1
        elif match in reported:
            score.repeated += 1
        else:
            reported.add(match)
            if match in dues:
                score.found += 1
                score.delays_s.append(time_s - dues[match] - dwell_s)
    return score


def _lasting(stream: Stream, index: int) -> list[tuple[float, float, float]]:
    """From when to when each state of an actor was seen, and in which share of the frames between."""
    actor = stream.script.actors[index]
    starts = [start for start, _ in actor.states] + [float("inf")]
    spans = []
    for begin, end in itertools.pairwise(starts):
        shots = [shot for shot in stream.shots if begin <= shot.time_s < end]
        seen = [shot.time_s for shot in shots if shot.visible[index]]
        between = sum(seen[0] <= shot.time_s <= seen[-1] for shot in shots) if seen else 1
        spans.append((seen[0], seen[-1], len(seen) / between) if seen else (0.0, 0.0, 0.0))
    return spans


def _whose(stream: Stream, shot: Shot, box: Boxes, class_id: int) -> tuple[int, int] | None:
    """The actor at a box, and the number of the state with this class; None where there is none."""
    iou = sv.box_iou_batch(box[None], shot.boxes_xyxy)[0] if len(shot.boxes_xyxy) else np.zeros(1)
    index = int(iou.argmax())
    if iou[index] < 0.3:
        return None
    actor = stream.script.actors[index]
    ends = [start for start, _ in actor.states[1:]] + [actor.span[1]]
    for number, ((start, state), end) in enumerate(zip(actor.states, ends, strict=True)):
        if state == class_id and start <= shot.time_s <= end + GRACE_S:
            return index, number
    return None


def watch(stream: Stream, model: ModelMetadata, settings: PeopleSettings) -> Score:
    """Runs `PeopleTracker` on a stream."""
    people = PeopleTracker("stream", "run", model, settings)
    events: list[tuple[float, Event]] = []
    last_number: dict[int, int] = {}
    switches = 0
    for index, shot in enumerate(stream.shots):
        when = START + timedelta(seconds=shot.time_s)
        frame = LiveFrame("stream", index, shot.time_s, when, 0.0, stream.draw(shot.time_s))
        scene = people.update(frame, shot.faces)
        events += [(shot.time_s, event) for event in scene.events]
        seen = [person for person in scene.people if person.seen]
        if seen and shot.visible.any():
            iou = sv.box_iou_batch(shot.boxes_xyxy, np.array([person.box_xyxy for person in seen]))
            for actor in np.flatnonzero(shot.visible & (iou.max(1) >= MATCH_IOU)):
                number = seen[int(iou[actor].argmax())].track
                switches += last_number.get(int(actor), number) != number
                last_number[int(actor)] = number
    events += [(frame.clock_s, event) for event in people.finish(frame)]
    names, alarming = model.classes, settings.alerting(model.classes)
    calls = [
        (time_s, names.index(str(event.state)), np.array(event.box_xyxy, np.float32))
        for time_s, event in events
        if event.kind == "alert"
    ]
    score = judge(stream, calls, frozenset(map(names.index, alarming)), settings.alerts.dwell_s)
    score.switches = switches
    score.counted = sum(event.counts["all"]["people"] for _, event in events if event.counts)
    score.people = sum(
        sum(end - begin for begin, end, _ in _lasting(stream, index)) > SURE_S
        for index in range(len(stream.script.actors))
    )
    return score


def by_frames(stream: Stream, model: ModelMetadata, *, only_new: bool) -> Score:
    """Events without tracking: one for each face of an alerting class, in every frame; or, with `only_new`,
    one for each such class that was not in the previous frame."""
    settings = PeopleSettings()
    alarming = frozenset(map(model.classes.index, settings.alerting(model.classes)))
    calls: list[Call] = []
    before: set[int] = set()
    for shot in stream.shots:
        now: dict[int, Boxes] = {}
        for index in np.flatnonzero(shot.faces.confident):
            class_id = int(shot.faces.class_ids[index])
            if class_id in alarming:
                now.setdefault(class_id, shot.faces.boxes_xyxy[index])
                if not only_new:
                    calls.append((shot.time_s, class_id, shot.faces.boxes_xyxy[index]))
        if only_new:
            calls += [(shot.time_s, class_id, box) for class_id, box in now.items() if class_id not in before]
        before = set(now)
    return judge(stream, calls, alarming, settings.alerts.dwell_s)


# ---- choosing --------------------------------------------------------------------------------------------

GRID: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("tracks", "widen"): (0.0, 0.3, 0.6),
    ("tracks", "min_iou"): (0.05, 0.1, 0.2),
    ("tracks", "frame_rate"): (5.0, 10.0, 30.0),
    ("tracks", "reach"): (0.0, 1.0, 2.0),
    ("tracks", "lost_s"): (1.0, 2.0, 3.0),
    ("tracks", "appearance"): (0.0, 0.3, 0.5),
    ("vote", "hold_s"): (0.4, 0.8, 1.2),
    ("vote", "evidence"): (2.0, 3.0, 4.0),
    ("vote", "doubt"): (0.05, 0.1, 0.2),
    ("vote", "margin"): (0.0, 0.1, 0.2),
    ("alerts", "place_cooldown_s"): (0.0, 10.0, 20.0),
}


def choose(streams: Sequence[Stream], model: ModelMetadata) -> Iterator[str]:
    """Optimises one setting after the other while the others stay."""
    settings = PeopleSettings()
    yield from head(row("setting", "value", *_HEADS, "cost"), left=2)
    for (group, name), values in GRID.items():
        tried = []
        now = getattr(getattr(settings, group), name)
        for value in sorted({*values, now}):
            changed = replace(getattr(settings, group), **{name: value})
            trial = replace(settings, **{group: changed})
            score = total(watch(stream, model, trial) for stream in streams)
            tried.append((score.cost, value, trial))
            yield row(name, f"{value:g}", *_cells(score), score.cost)
        cost = min(cost for cost, value, _ in tried if value == now)
        best = min(tried, key=lambda one: (one[0], abs(one[1] - now)))
        if best[0] <= cost - LEAST_GAIN:
            settings = best[2]
    yield ""
    yield f"chosen: {settings}"


def total(scores: Iterable[Score]) -> Score:
    return sum(scores, Score())


# ---- tables ----------------------------------------------------------------------------------------------

_HEADS = (
    "events due", "found", "wrong", "repeated", "identity switches", "people / counted", "delay, median",
)  # fmt: skip


def _cells(score: Score, *, people: bool = True) -> list[str]:
    delay = f"{float(np.median(score.delays_s)):+.1f} s" if score.delays_s else "–"
    share = f" ({score.found / score.due:.0%})" if score.due else ""
    tracked = (str(score.switches), f"{score.people} / {score.counted}") if people else ("–", "–")
    return [str(score.due), f"{score.found}{share}", str(score.wrong), str(score.repeated), *tracked, delay]


def report(levels: Mapping[str, Sequence[Stream]], model: ModelMetadata) -> Iterator[str]:
    yield from head(row("streams", "method", *_HEADS), left=2)
    for title, streams in levels.items():
        name = f"{len(streams)} {title}"
        every = total(by_frames(stream, model, only_new=False) for stream in streams)
        new = total(by_frames(stream, model, only_new=True) for stream in streams)
        ours = total(watch(stream, model, PeopleSettings()) for stream in streams)
        yield row(name, "every frame an event", *_cells(every, people=False))
        yield row(name, "an event when a class appears", *_cells(new, people=False))
        yield row(name, "**people**", *_cells(ours))


def measure(options: argparse.Namespace) -> Iterator[str]:
    finder = FaceFinder(options.model)
    model = finder.metadata
    samples = read_data(options.data, ClassMap(model.classes)).samples
    half = samples[0::2] if options.choose else samples[1::2]
    gallery = read_gallery(half, finder)
    first = 0 if options.choose else 10_000
    scripts = gallery.scripts(range(first, first + options.simulated))
    levels = {
        "of a perfect model": [simulated(script, perfect(gallery)) for script in scripts],
        "simulated": [simulated(script, gallery) for script in scripts],
        "rendered": [
            rendered(script, gallery, finder)
            for script in gallery.scripts(range(first + 5000, first + 5000 + options.rendered))
        ],
    }
    if options.choose:
        return choose([*levels["simulated"], *levels["rendered"]], model)
    return report(levels, model)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of annotated photographs")
    parser.add_argument("--model", default="maskwatch-320", help="name or file of a model")
    parser.add_argument("--simulated", type=int, default=100, help="streams on this level (default 100)")
    parser.add_argument("--rendered", type=int, default=16, help="streams on this level (default 16)")
    parser.add_argument(
        "--choose", action="store_true", help="try settings, on the other half of the pictures"
    )
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())

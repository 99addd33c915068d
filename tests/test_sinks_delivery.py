"""Delivery: nobody waits for a sink, and what is lost is said."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from drawn_events import COUNTS, START, event, minute, read_events, wait_until
from live_scenes import frame_result
from maskwatch.errors import EventError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.events import Event
from maskwatch.live.output.screen import Screen
from maskwatch.live.sinks import Backlog, RetryableError, Sink
from maskwatch.live.sinks.delivery import Delivery, SinkStatus
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.tracking.results import FrameResult


class Kept(Sink):
    """Keeps what it gets; blocks while `gate` is not set."""

    durable = True

    def __init__(self, name: str = "kept") -> None:
        self.name = name
        self.got: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.closed_with: float | None = None
        self.cancelled = threading.Event()
        self.failures: list[Exception] = []

    def send(self, event: Event) -> None:
        while not self.gate.wait(0.01):
            if self.cancelled.is_set():
                raise EventError("cancelled; start again")
        if self.failures:
            raise self.failures.pop(0)
        self.got.append(event.id)

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self, timeout_s: float) -> None:
        self.closed_with = timeout_s


class Notes:
    """Collects what the callbacks say."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, str]] = []
        self.trouble: list[tuple[str, str]] = []

    def on_stored(self, name: str, id: str) -> None:
        self.stored.append((name, id))

    def on_error(self, name: str, text: str) -> None:
        self.trouble.append((name, text))


@pytest.fixture
def notes() -> Notes:
    return Notes()


def deliver(notes: Notes, *sinks: Sink, queue_size: int = 100) -> Delivery:
    return Delivery(sinks, on_stored=notes.on_stored, on_error=notes.on_error, queue_size=queue_size)


def test_every_sink_gets_every_event_in_order(notes: Notes) -> None:
    sinks = [Kept("a"), Kept("b")]
    events = [event(number) for number in range(50)]
    with deliver(notes, *sinks) as delivery:
        for one in events:
            delivery.put(one)
    assert [sink.got for sink in sinks] == [[one.id for one in events]] * 2
    assert sorted(notes.stored) == sorted((sink.name, one.id) for sink in sinks for one in events)
    assert all(sink.closed_with is not None and sink.closed_with > 0 for sink in sinks)
    assert [(one.sent, one.waiting, one.lost, one.error) for one in delivery.status()] == [
        (50, 0, 0, None)
    ] * 2
    assert notes.trouble == []


def test_kinds_choose(notes: Notes) -> None:
    sink = Kept()
    sink.kinds = frozenset(["minute"])
    with deliver(notes, sink) as delivery:
        delivery.put(event(1))
        delivery.put(minute(2))
    assert sink.got == [minute(2).id]


def test_what_is_not_durable_is_not_called_stored(notes: Notes) -> None:
    sink = Kept()
    sink.durable = False
    with deliver(notes, sink) as delivery:
        delivery.put(event(1))
    assert sink.got == [event(1).id]
    assert notes.stored == []


def test_a_sink_that_hangs_stalls_neither_the_watching_nor_the_others(notes: Notes) -> None:
    dead, alive = Kept("dead"), Kept("alive")
    dead.gate.clear()
    delivery = deliver(notes, dead, alive, queue_size=5)
    for number in range(30):
        delivery.put(event(number))
        wait_until(lambda number=number: len(alive.got) > number, "the sink that works")
    stuck, well = delivery.status()
    assert well == type(well)("alive", sent=30, waiting=0, lost=0, error=None)
    assert (stuck.sent, stuck.waiting, stuck.lost) == (0, 6, 24)  # one in hand, five in the queue
    assert notes.trouble == [("dead", "5 events wait already; new ones are dropped")]
    before = time.monotonic()
    delivery.close(0.2)
    assert time.monotonic() - before < 20  # it hangs for ever; any end is the point
    assert dead.cancelled.is_set()
    assert delivery.status()[0].lost == 30
    assert notes.trouble[-1][0] == "dead"


def test_what_was_dropped_is_said_when_it_goes_on(notes: Notes) -> None:
    sink = Kept()
    sink.gate.clear()
    delivery = deliver(notes, sink, queue_size=2)
    delivery.put(event(0))
    wait_until(lambda: delivery.status()[0].waiting == 1, "the first is in hand")
    wait_until(lambda: not delivery._queues[0]._events, "the first is in hand")
    for number in range(1, 7):
        delivery.put(event(number))
    sink.gate.set()
    wait_until(lambda: len(sink.got) == 3, "the queue")
    delivery.close()
    assert sink.got == [event(number).id for number in range(3)]
    assert notes.trouble == [
        ("kept", "2 events wait already; new ones are dropped"),
        ("kept", "takes events again; 4 were dropped meanwhile"),
    ]
    assert delivery.status()[0].lost == 4


def test_try_later_tries_again_and_keeps_the_order(notes: Notes) -> None:
    sink = Kept()
    sink.failures = [RetryableError("the disk is full; free space", 0.01) for _ in range(3)]
    with deliver(notes, sink) as delivery:
        delivery.put(event(1))
        delivery.put(event(2))
        wait_until(lambda: len(sink.got) == 2, "both")
    assert sink.got == [event(1).id, event(2).id]
    assert notes.trouble == [("kept", "the disk is full; free space"), ("kept", "takes events again")]
    assert delivery.status()[0].lost == 0


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EventError("no; do so"), "no; do so"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_loses_one_event_and_not_the_sink(notes: Notes, error: Exception, text: str) -> None:
    sink = Kept()
    sink.failures = [error]
    delivery = deliver(notes, sink)
    delivery.put(event(1))
    wait_until(lambda: delivery.status()[0].lost == 1, "the first is lost")
    assert delivery.status()[0].error == text
    delivery.put(event(2))
    delivery.close()
    assert sink.got == [event(2).id]
    assert notes.stored == [("kept", event(2).id)]
    assert delivery.status()[0].error is None


def test_closing_gives_up_at_its_time(notes: Notes) -> None:
    class Never(Kept):
        def send(self, event: Event) -> None:
            raise RetryableError("the disk is full; free space")

    delivery = deliver(notes, Never("never"))
    for number in range(3):
        delivery.put(event(number))
    delivery.close(0.3)
    (status,) = delivery.status()
    assert (status.sent, status.waiting, status.lost) == (0, 0, 3)
    assert notes.trouble[0] == ("never", "the disk is full; free space")
    assert "2 events lost" in notes.trouble[-1][1]  # and the one in hand


def test_after_closing_nothing_is_taken(notes: Notes) -> None:
    sink = Kept()
    delivery = deliver(notes, sink)
    delivery.close()
    delivery.close()
    delivery.put(event(1))
    assert sink.got == []
    assert delivery.status()[0].lost == 1


def test_status_tells_what_waits_inside(notes: Notes) -> None:
    class Box(Kept):
        def backlog(self) -> Backlog:
            return Backlog(waiting=7, dead_letters=2, problem="away; mend it")

    class Broken(Kept):
        def backlog(self) -> Backlog:
            raise OSError("gone")

    with deliver(notes, Box(), Broken()) as delivery:
        status, broken = delivery.status()
        delivery.put(event(1))
    assert (status.waiting, status.lost, status.error) == (7, 2, "away; mend it")
    assert broken.error == "OSError: gone"
    assert [one.sent for one in delivery.status()] == [1, 1]


def test_what_changes_inside_is_said(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.live.sinks.delivery._BACKLOG_S", 0.01)
    states = [
        Backlog(),
        Backlog(2, 0, "away; mend it"),
        Backlog(2, 0, "away; mend it"),
        Backlog(0, 1),
    ]

    class Box(Kept):
        def backlog(self) -> Backlog:
            return states.pop(0) if len(states) > 1 else states[0]

    delivery = deliver(notes, Box())
    wait_until(lambda: len(notes.trouble) == 3, "all is said")
    states[0] = Backlog(3)
    delivery.close()
    assert [text for _, text in notes.trouble] == [
        "away; mend it",
        "1 event refused permanently; list them with: maskwatch events dead-letters",
        "delivers again",
        "on the disk for the next start: 3 events",
    ]


def test_deleting_goes_on_after_a_sink_that_cannot(notes: Notes) -> None:
    class Locked(Kept):
        def delete_before(self, when: datetime) -> int:
            raise RetryableError("locked; try again")

    class Deleting(Kept):
        def delete_before(self, when: datetime) -> int:
            self.got.append(when.isoformat())
            return 3

    locked, deleting = Locked(), Deleting()
    with deliver(notes, deleting, Kept(), deleting) as delivery:
        assert delivery.delete_before(START) == 6
    with deliver(notes, locked, deleting) as delivery, pytest.raises(RetryableError, match="locked"):
        delivery.delete_before(START)
    assert deleting.got == [START.isoformat()] * 3


def test_an_error_of_closing_is_said(notes: Notes) -> None:
    class Bad(Kept):
        def close(self, timeout_s: float) -> None:
            raise OSError("gone")

    deliver(notes, Bad()).close()
    assert notes.trouble == [("kept", "OSError: gone")]


class SlowToAsk(Sink):
    """A sink whose state takes as long as `answer` does not come, as on a disk that hangs."""

    name = "slow"

    def __init__(self) -> None:
        self.opened, self.asked, self.answer = (threading.Event() for _ in range(3))

    def send(self, event: Event) -> None:
        pass

    def backlog(self) -> Backlog:
        if self.opened.is_set():
            self.asked.set()
            self.answer.wait(60)
        return Backlog(waiting=3 if self.answer.is_set() else 0)


def test_a_sink_that_is_slow_to_ask_holds_nobody_up() -> None:
    """Neither who asks how the sinks are, nor the watching, whose looks the screen takes."""
    sink, done = SlowToAsk(), threading.Event()

    def everything() -> None:
        screen = Screen(list, delivery.status, ("mask", "no_mask"), ("no_mask",))
        screen.render()
        screen.on_frame(a_result("door"))
        delivery.put(event(1))
        screen.on_event(event(1))
        done.set()

    delivery = Delivery([sink])
    sink.opened.set()
    delivery.put(event(0))
    try:
        assert sink.asked.wait(60)
        threading.Thread(target=everything, daemon=True).start()
        assert done.wait(30)
    finally:
        sink.answer.set()
        wait_until(lambda: delivery.status()[0].waiting == 3, "what it said in the end")
        delivery.close()


def test_the_screen_asks_without_what_the_watching_waits_for() -> None:
    shown, asked, answer, done = (threading.Event() for _ in range(4))

    def sinks() -> list[SinkStatus]:
        if shown.is_set():  # it is drawn for the first time when it is made
            asked.set()
            answer.wait(60)
        return []

    screen = Screen(list, sinks, ("mask", "no_mask"), ("no_mask",))
    shown.set()
    drawing = threading.Thread(target=screen.render)
    drawing.start()
    assert asked.wait(60)
    threading.Thread(target=lambda: (screen.on_frame(a_result("door")), done.set()), daemon=True).start()
    looked = done.wait(30)
    answer.set()
    drawing.join()
    assert looked


def a_result(source: str) -> FrameResult:
    moment = datetime.now().astimezone()
    return frame_result(LiveFrame(source, 0, 0.0, moment, 0.0, np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.skipif(os.name != "posix", reason="there is no /bin/sh here")
def test_every_sink_gets_media_time_clip_and_who_is_undecided(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="the extra live is not installed")
    from maskwatch.live.sinks.factory import open_delivery
    from maskwatch.live.sinks.outbox import Outbox
    from receiver import Receiver

    counts = {**COUNTS, "all": {**COUNTS["all"], "undecided": 2}}
    sent = [
        event(1, time_s=83.25, clip="clips/a.mp4"),
        event(2, kind="crossing", state=None, score=None, time_s=84.5, line="gate", direction="in"),
        minute(3, time_s=60.0, counts=counts),
    ]
    files = {name: tmp_path / name for name in ("events", "db", "shell")}
    command = (
        f"cd '{tmp_path}'; cat >> shell; echo $MASKWATCH_EVENT_TIME_S $MASKWATCH_EVENT_CLIP >> shell.txt"
    )
    with Receiver() as receiver:
        settings = SinkSettings(
            events=files["events"], db=files["db"], webhook=receiver.url, shell=command,
            mqtt="mqtt://127.0.0.1:9/x", outboxes=tmp_path / "waiting",
            kinds={"shell": frozenset(["alert", "crossing", "minute"])},
        )  # fmt: skip
        with open_delivery(settings) as delivery:
            for one in sent:
                delivery.put(one)
            wait_until(lambda: len(receiver.requests) == 3, "the webhook")
            delivery.close(2)
    records = [one.to_record() for one in sent]
    assert read_events(files["events"]) == sent
    assert [request.record for request in receiver.requests] == records
    assert [json.loads(line) for line in files["shell"].read_text("utf-8").splitlines()] == records
    assert (tmp_path / "shell.txt").read_text("utf-8").split() == ["83.25", "clips/a.mp4", "84.5", "60.0"]
    with EventStore(files["db"]) as store:
        assert [*store.every_record()] == records
    (broker,) = (tmp_path / "waiting").glob("127.0.0.1_9-*.sqlite")
    with Outbox(broker, create=False) as outbox:  # no broker listens, so they wait as they will be published
        bodies = []
        while (queued := outbox.first()) is not None:
            bodies.append(json.loads(queued.body))
            outbox.remove(queued)
    assert bodies == records

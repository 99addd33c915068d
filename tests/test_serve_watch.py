"""`serve --watch`: a camera watched by the service, as numbers, pictures and events."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("trackers", reason="needs the extra 'live'")
pytest.importorskip("paho.mqtt", reason="needs the extra 'live'")

from broker import Listener, Mosquitto, needs_broker
from camera_servers import HttpCamera, begin_mjpeg, send_picture
from drawn_events import wait_until
from maskwatch.cli.app import main
from maskwatch.errors import OptionError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.capture.settings import CaptureSettings
from maskwatch.live.config import WatchConfig
from maskwatch.live.events import Event
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.settings import SinkSettings
from maskwatch.live.tracking.alerts import AlertSettings
from maskwatch.live.tracking.faces import Faces
from maskwatch.live.tracking.results import FrameResult, Person, SceneState
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.videos import Video
from maskwatch.serve.live_state import LiveState
from maskwatch.serve.settings import ServeSettings
from receiver import SECRET, Receiver, signature_is_right
from serving import LONG_S, command, server_in_thread, settings

FACE = slice(64, 128)
INSIDE = slice(80, 112)


def striped() -> np.ndarray:
    """A grey picture with a person without a mask, who has a pattern of his own."""
    image = np.full((256, 256, 3), 90, np.uint8)
    image[FACE, FACE] = (255, 0, 0)
    image[64:128:8, FACE] = image[65:128:8, FACE] = (90, 0, 0)
    return image


def camera_of(image_rgb: np.ndarray) -> Callable[[BaseHTTPRequestHandler, threading.Event], None]:
    picture = cv2.imencode(".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))[1].tobytes()

    def answer(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
        begin_mjpeg(handler)
        while not ended.wait(1 / 25):
            send_picture(handler, picture)

    return answer


class Site:
    """A running service."""

    def __init__(self, port: int) -> None:
        self.port = port

    @contextlib.contextmanager
    def open(self, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                yield response

    def json(self, path: str) -> Any:
        with self.open(path) as response:
            return json.loads(response.read())

    def picture(self, path: str) -> np.ndarray:
        """The next picture of a stream."""
        with self.open(path) as response:
            assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
            return next_picture(response)


def next_picture(response: http.client.HTTPResponse) -> np.ndarray:
    assert response.readline() == b"--frame\r\n"
    assert response.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(response.readline().partition(b":")[2])
    assert response.readline() == b"\r\n"
    data = response.read(length)
    assert response.readline() == b"\r\n"
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


@contextlib.contextmanager
def site(model: Path, source: str, limits: dict[str, Any] | None = None, **rest: Any) -> Iterator[Site]:
    sinks = rest.pop("sinks", SinkSettings())
    plan = WatchConfig(
        sources=(source,),
        model=str(model),
        sinks=sinks,
        capture=CaptureSettings(first_wait_s=0.2, pace=True),
        people=PeopleSettings(alerts=AlertSettings(dwell_s=0.3)),
    )
    with server_in_thread(settings(model, limits, port=0, watch=plan, **rest)) as address:
        yield Site(int(address.rpartition(":")[2]))


@pytest.fixture(scope="module")
def camera() -> Iterator[HttpCamera]:
    with HttpCamera(camera_of(striped())) as camera:
        yield camera


@pytest.fixture(scope="module")
def watched(tiny_model: Path, camera: HttpCamera) -> Iterator[Site]:
    with site(tiny_model, f"door={camera.url}", {"max_streams": 2}) as watched:
        wait_until(
            lambda: any(event["kind"] == "alert" for event in watched.json("/v1/watch")["events"]), "alert"
        )
        yield watched


def test_who_is_there(watched: Site) -> None:
    document = watched.json("/v1/watch")
    (source,) = document["sources"]
    assert (source["name"], source["state"], source["reason"]) == ("door", "live", "")
    assert (source["width"], source["height"]) == (256, 256)
    (person,) = source["people"]
    assert (person["track"], person["state"], person["alert"]) == (1, "no_mask", True)
    assert np.abs(np.array(person["box"]) - (64, 64, 128, 128)).max() < 10
    assert source["counts"] == {"mask": 0, "no_mask": 1, "mask_incorrect": 0}
    assert source["stream"] == "/v1/watch/door.mjpg"
    alert = next(event for event in document["events"] if event["kind"] == "alert")
    assert alert["schema"] == "maskwatch.event/1"
    assert alert["run"] == document["run"]
    assert alert["state"] == "no_mask"


def test_metrics_of_the_source(watched: Site) -> None:
    text = read(watched, "/metrics").decode()
    assert 'maskwatch_source_state{source="door",state="live"} 1.0' in text
    assert 'maskwatch_source_state{source="door",state="waiting"} 0.0' in text
    assert float(re.findall(r'maskwatch_source_frames_total\{source="door"\} (\S+)', text)[0]) > 1
    assert watched.json("/v1/watch")["sinks"] == []


def test_a_receiver_that_is_away_is_seen_from_outside(
    tiny_model: Path, camera: HttpCamera, tmp_path: Path
) -> None:
    with Receiver() as receiver:
        url = receiver.url  # nobody listens there afterwards
    sinks = SinkSettings(webhook=url, events=tmp_path / "e.jsonl", outboxes=tmp_path / "waiting")
    with site(tiny_model, f"door={camera.url}", sinks=sinks) as watched:

        def of(name: str) -> dict[str, Any]:
            return next(one for one in watched.json("/v1/watch")["sinks"] if one["name"] == name)

        wait_until(lambda: of("webhook")["waiting"] and of("webhook")["error"], "trouble")
        wait_until(lambda: of("jsonl")["sent"], "an event in the file")
        assert of("jsonl") | {"sent": 0} == {
            "name": "jsonl", "sent": 0, "waiting": 0, "lost": 0, "error": None
        }  # fmt: skip
        text = read(watched, "/metrics").decode()
    assert 'maskwatch_sink_trouble{sink="webhook"} 1.0' in text
    assert 'maskwatch_sink_trouble{sink="jsonl"} 0.0' in text
    assert re.search(r'^maskwatch_sink_events_waiting\{sink="webhook"\} [1-9]', text, re.MULTILINE)


def rows_differ(image: np.ndarray) -> float:
    """How much of the pattern of the face is left."""
    return float(np.abs(np.diff(image[INSIDE, INSIDE, 0], axis=0)).max())


def test_the_stream_hides_faces(watched: Site) -> None:
    image = watched.picture("/v1/watch/door.mjpg")
    assert image.shape == (256, 256, 3)
    assert rows_differ(striped().astype(int)) == 165
    assert rows_differ(image) < 30
    assert np.abs(image[200:, 200:] - 90).max() < 8


def test_the_stream_goes_on_and_ends_with_its_client(watched: Site) -> None:
    with watched.open("/v1/watch/door.mjpg") as first, watched.open("/v1/watch/door.mjpg") as second:
        for _ in range(3):
            next_picture(first)
            next_picture(second)
        with watched.open("/v1/watch/events") as third:
            assert third.status == 503
            assert third.headers["Retry-After"]
    wait_until(lambda: b"maskwatch_streams 0.0" in read(watched, "/metrics"), "end of streams")


def read(watched: Site, path: str) -> bytes:
    with watched.open(path) as response:
        return response.read()


def test_a_client_that_reconnects_gets_the_events_it_missed(watched: Site) -> None:
    events = watched.json("/v1/watch")["events"]
    first, *missed = events
    with watched.open("/v1/watch/events", **{"Last-Event-ID": first["id"]}) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.readline().startswith(b":")
        assert response.readline() == b"\n"
        for event in missed:
            assert response.readline() == f"event: {event['kind']}\n".encode()
            assert response.readline() == f"id: {event['id']}\n".encode()
            kind, _, data = response.readline().partition(b": ")
            assert (kind, json.loads(data)) == (b"data", event)
            assert response.readline() == b"\n"


def test_no_such_source(watched: Site) -> None:
    with watched.open("/v1/watch/cellar.mjpg") as response:
        assert response.status == 404
        assert "'cellar'" in json.loads(response.read())["detail"]


def test_its_description_has_it(watched: Site) -> None:
    paths = watched.json("/openapi.json")["paths"]
    assert {"/v1/watch", "/v1/watch/events", "/v1/watch/{source}.mjpg"} <= paths.keys()


def test_a_face_that_was_missed_is_hidden_until_the_frames_have_another_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    face = np.array([[64, 64, 128, 128]], np.float32)
    state = LiveState({"door": Zones()}, ["no_mask"], keep_faces=False)
    shown = []
    for index, (image_rgb, boxes_xyxy) in enumerate(
        [(image, face), (image, face[:0]), (image[:, :200], face[:0])]
    ):
        state.on_frame(looked_at(image_rgb, index, boxes_xyxy))
        view = state.newest("door")
        assert view is not None
        shown.append(np.asarray(Image.open(io.BytesIO(view.jpeg())))[INSIDE, INSIDE].astype(float).std())
    found, missed, other_size = shown
    assert max(found, missed) < 25 < 40 < other_size


def test_people_before_a_lost_source_are_gone() -> None:
    state = LiveState({"door": Zones()}, ["mask", "no_mask"], keep_faces=True)
    light = np.full((240, 320, 3), 200, np.uint8)
    person = Person(1, np.array([10, 10, 50, 50], np.float32), "no_mask", 0.9, 5.0, (), True, True)
    state.on_frame(looked_at(light, 0, np.zeros((0, 4), np.float32), (person,)))
    before = state.newest("door")
    assert before is not None
    state.on_event(source_event("waiting", "no frame for 10 s"))
    lost = state.newest("door")
    assert lost is not None
    assert lost is not before, "or the stream would not send it"
    assert [*lost.people] == []
    assert state.counts("door") == {"mask": 0, "no_mask": 1}
    picture = np.asarray(Image.open(io.BytesIO(lost.jpeg()))).astype(int)
    assert picture.shape == light.shape
    assert picture[:60].max() < 70, "dark"
    assert picture[90:150].max() > 200, "with a text across it"
    state.on_event(source_event("live", None))
    state.on_frame(looked_at(light, 1, np.zeros((0, 4), np.float32)))
    back = state.newest("door")
    assert back is not None
    assert np.asarray(Image.open(io.BytesIO(back.jpeg()))).min() > 190
    assert state.counts("door") == {"mask": 0, "no_mask": 1}


def test_a_source_without_a_first_frame_has_a_picture_with_a_notice() -> None:
    state = LiveState({"door": Zones()}, ["mask"], keep_faces=False)
    state.on_event(source_event("waiting", "Connection refused"))
    view = state.newest("door")
    assert view is not None
    assert np.asarray(Image.open(io.BytesIO(view.jpeg()))).max() > 200


def source_event(state: str, reason: str | None) -> Event:
    return Event("source", datetime.now().astimezone(), "door", "run", state=state, reason=reason)


def test_a_lost_camera_has_nobody_in_front_of_it(tiny_model: Path) -> None:
    lost = threading.Event()
    show = camera_of(striped())

    def answer(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
        show(handler, lost) if not lost.is_set() else handler.send_error(503)

    def of_door() -> dict[str, Any]:
        return watched.json("/v1/watch")["sources"][0]  # type: ignore[no-any-return]

    with HttpCamera(answer) as camera, site(tiny_model, f"door={camera.url}") as watched:
        wait_until(lambda: any(one["alert"] for one in of_door()["people"]), "alert")
        with watched.open("/v1/watch/door.mjpg") as stream:
            next_picture(stream)
            lost.set()
            wait_until(lambda: of_door()["state"] == "waiting" and not of_door()["people"], "loss")
            assert of_door()["counts"]["no_mask"] >= 1
            wait_until(lambda: next_picture(stream)[200:, 200:].max() < 60, "the notice in the stream")
        lost.clear()
        wait_until(lambda: of_door()["people"], "return")


def looked_at(
    image_rgb: np.ndarray, index: int, boxes_xyxy: np.ndarray, people: tuple[Person, ...] = ()
) -> FrameResult:
    frame = LiveFrame("door", index, index / 10, datetime.now().astimezone(), 0.0, image_rgb)
    count = len(boxes_xyxy)
    faces = Faces(boxes_xyxy, np.ones((count, 1), np.float32), np.ones(count, bool))
    return FrameResult(frame, faces, SceneState(people, (), sv.Detections.empty(), np.full(count, -1)), 0.0)


def test_streams_end_when_the_service_stops(tiny_model: Path, camera: HttpCamera, tmp_path: Path) -> None:
    """Also: faces are kept where that is wanted, and events stored."""
    sinks = SinkSettings(events=tmp_path / "events.jsonl")
    with contextlib.ExitStack() as stack:
        with site(tiny_model, f"door={camera.url}", keep_faces=True, sinks=sinks) as watched:
            pictures = stack.enter_context(watched.open("/v1/watch/door.mjpg"))
            events = stack.enter_context(watched.open("/v1/watch/events"))
            assert rows_differ(next_picture(pictures)) > 100
            wait_until(
                lambda: any(one["kind"] == "alert" for one in watched.json("/v1/watch")["events"]), "alert"
            )
        pictures.read()  # returns only because the stream ends
        lines = [line for line in events.read().decode().splitlines() if line.startswith("event: ")]
        assert "event: alert" in lines
    stored = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in stored if one["kind"] == "alert_end"] == ["stopped"]


def test_events_go_where_the_command_sends_them(
    tiny_model: Path, camera: HttpCamera, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To all that are named at once; the webhook has only the kinds that it was to get, signed."""
    monkeypatch.setenv("MASKWATCH_WEBHOOK_SECRET", SECRET)
    alert_file = tmp_path / "alert_file.json"
    with Receiver() as receiver:
        options = [
            "--watch", f"door={camera.url}",
            "--events", str(tmp_path / "e.jsonl"), "--db", str(tmp_path / "e.sqlite"),
            "--webhook", receiver.url, "--outboxes", str(tmp_path / "waiting"),
            "--send", "webhook=alert,alert_end", "--shell", f"cat > {shlex.quote(str(alert_file))}",
        ]  # fmt: skip
        with command(tiny_model, *options) as running:
            wait_until(
                lambda: receiver.requests and alert_file.is_file() and alert_file.read_text(), "alert", LONG_S
            )
            assert running.stop() == 0
            assert running.process.stderr is not None
            assert running.process.stderr.read() == ""
    records = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text("utf-8").splitlines()]
    assert {"source", "alert", "alert_end"} <= {record["kind"] for record in records}
    with EventStore(tmp_path / "e.sqlite") as store:
        assert sorted(record["id"] for record in store.records()) == sorted(one["id"] for one in records)
    alerts = [record for record in records if record["kind"] in ("alert", "alert_end")]
    assert [request.record for request in receiver.requests] == alerts
    assert [record["kind"] for record in alerts] == ["alert", "alert_end"]
    assert alerts[1]["reason"] == "stopped"
    assert json.loads(alert_file.read_text("utf-8")) == alerts[0]
    assert all(signature_is_right(one, b"0123456789abcdef0123456789abcdef") for one in receiver.requests)
    assert len([*(tmp_path / "waiting").glob("*.sqlite")]) == 1


def test_pictures_of_alerts_are_stored_and_what_is_old_is_deleted(
    tiny_model: Path, camera: HttpCamera, tmp_path: Path
) -> None:
    folder = tmp_path / "alerts"
    folder.mkdir()
    past = folder / "20200131T080000Z_door_t12_3f2a9c01.jpg"
    past.write_bytes(b"\xff\xd8\xff")
    options = ["--watch", f"door={camera.url}", "--thumbnails", str(folder), "--retain", "7"]
    with command(tiny_model, *options, "--clips", str(folder)) as running:
        wait_until(lambda: any(one != past for one in folder.glob("*.jpg")), "picture", LONG_S)
        assert running.stop() == 0
    (picture,), (clip,) = folder.glob("*.jpg"), folder.glob("*.mp4")
    assert clip.name.startswith(picture.name[:16])
    with Video(clip) as video:
        assert max(rows_differ(frame.image_rgb.astype(int)) for frame in video.frames()) < 30
    assert picture != past
    assert rows_differ(np.asarray(Image.open(picture)).astype(int)) < 30


@needs_broker
def test_home_assistant_learns_of_what_a_service_watches(
    tiny_model: Path, camera: HttpCamera, tmp_path: Path
) -> None:
    broker = Mosquitto(tmp_path)
    try:
        listener = Listener(broker.port)
        try:
            options = ["--mqtt", f"mqtt://127.0.0.1:{broker.port}/home", "--outboxes", str(tmp_path)]
            with command(tiny_model, "--watch", f"door={camera.url}", *options) as running:
                alerts = lambda: [one for one in listener.of("home/events") if one["kind"] == "alert"]  # noqa: E731
                wait_until(alerts, "alert", LONG_S)
                assert running.stop() == 0
            wait_until(lambda: listener.of("home/status") == ["online", "offline"], "the end", LONG_S)
        finally:
            listener.close()
    finally:
        broker.kill()
    assert [(one["source"], one["state"]) for one in alerts()] == [("door", "no_mask")]
    assert any(topic.startswith("homeassistant/") for topic, _, _ in listener.messages)


def test_a_file_that_cannot_be_watched(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    with site(tiny_model, f"film={tmp_path / 'torn.mp4'}") as watched:
        assert watched.json("/v1/models")["models"]
    assert "serving goes on" in capsys.readouterr().err


def test_options_that_need_each_other(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MASKWATCH_TOKEN", raising=False)
    for arguments, text in (
        (["--keep-faces"], "--keep-faces"),
        (["--zones", "z.toml"], "--zones z.toml"),
        (["--db", "a.sqlite"], "--db a.sqlite"),
        (["--watch-fps", "5"], "--watch-fps 5.0"),
        (["--retain", "7"], "--retain 7.0"),
        (["--clips", "c"], "--clips c"),
        (["--alert", "no_mask"], "--alert no_mask"),
        (["--watch", "0", "--alert", "helmet"], "--alert helmet: the model has no such class"),
        (["--watch", "0", "--retain", "7"], "add something that stores"),
        (["--watch", "0", "--workers", "2"], "--workers 2"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--model", str(tiny_model), *arguments])
        assert ended.value.code == 2
        assert text in capsys.readouterr().err


def test_one_process_for_watching(tiny_model: Path) -> None:
    plan = WatchConfig(sources=("0",), model=str(tiny_model))
    with pytest.raises(OptionError, match="one process"):
        ServeSettings(models=(str(tiny_model),), workers=2, watch=plan)

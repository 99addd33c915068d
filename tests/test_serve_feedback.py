"""`/v1/feedback`: pictures whose answer a user calls wrong."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from starlette.testclient import TestClient

from maskwatch.errors import OptionError
from maskwatch.hard_cases import HardCaseLimits
from maskwatch.text import parse_xml
from serving import BEARER, LOCAL, TOKEN, client_of, picture_file

FOUND = {"class": "no_mask", "class_id": 1, "score": 0.5312, "box": [1.5, 2, 30, 40]}


@pytest.fixture
def client(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("maskwatch.serve.api.feedback._A_SECOND", 1000.0)
    limits = {"max_bytes": 200_000, "max_pixels": 100_000}
    with client_of(tiny_model, limits, keep_hard=tmp_path / "hard") as client:
        yield client


def picture(seed: int = 0) -> bytes:
    return picture_file(np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8))


def body(seed: int = 0, **changes: Any) -> dict[str, Any]:
    data = base64.b64encode(picture(seed)).decode()
    return {"data": data, "name": "door.jpg", "detections": [FOUND], **changes}


def test_without_the_option_there_is_no_such_place(tiny_model: Path) -> None:
    with client_of(tiny_model) as client:
        assert client.get("/v1/feedback").status_code == 404
        assert client.post("/v1/feedback", json=body()).status_code == 404
        assert "/v1/feedback" not in client.get("/openapi.json").json()["paths"]


def test_a_wrong_answer_is_stored(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/v1/feedback").json() == {"kept": True}
    answer = client.post("/v1/feedback", json=body())
    assert (answer.status_code, answer.json()) == (200, {"kept": True})
    (path,) = (tmp_path / "hard").glob("*_door.jpg_t-_wrong_*.jpg")
    root = parse_xml(path.with_suffix(".xml").read_bytes())
    assert root.findtext("maskwatch/state") == "proposed"
    assert root.findtext("maskwatch/model") == "tiny"
    assert root.findtext("object/name") == "no_mask"
    assert [node.text for node in root.iterfind("object/bndbox/*")] == ["1.50", "2.00", "30.00", "40.00"]
    scores = {node.get("name"): node.text for node in root.iterfind("maskwatch/scores/object/class")}
    assert scores == {"mask": "0.0000", "no_mask": "0.5312", "mask_incorrect": "0.0000"}
    assert client.post("/v1/feedback", json=body()).json() == {"kept": False}  # the same picture again
    assert client.post("/v1/feedback", json=body(1, detections=[])).json() == {"kept": True}


def test_a_picture_is_stored_upright_and_without_its_metadata(client: TestClient, tmp_path: Path) -> None:
    image, exif, file = Image.new("RGB", (64, 48), (200, 90, 30)), Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, "the camera"
    image.save(file, "JPEG", exif=exif)
    data = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    assert client.post("/v1/feedback", json=body(data=data)).json() == {"kept": True}
    (path,) = (tmp_path / "hard").glob("*.jpg")
    with Image.open(path) as stored:
        assert (stored.size, dict(stored.getexif())) == ((48, 64), {})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": "no Base64!"}, "data is not a picture in Base64"),
        ({"data": "aGVsbG8="}, "data is not a picture in Base64"),
        ({"data": "é"}, "data is not a picture in Base64"),
        ({"model": "other"}, "model 'other' is not served"),
        ({"detections": [{**FOUND, "class": "hat"}]}, "no class 'hat'"),
        ({"detections": [{**FOUND, "score": 2}]}, "score"),
        ({"detections": [{**FOUND, "box": [1, 2, 3]}]}, "box"),
        ({"detections": [{**FOUND, "box": [30, 2, 1, 4]}]}, "has no area in the picture of 64 x 48"),
        ({"detections": [{**FOUND, "box": [100, 2, 130, 4]}]}, "has no area"),
        ({"detections": [FOUND] * 1001}, "detections"),
        ({"more": 1}, "more"),
    ],
)
def test_what_cannot_be_used_is_refused(
    client: TestClient, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    answer = client.post("/v1/feedback", json=body(**changes))
    assert answer.status_code == 422, answer.text
    assert text in answer.json()["detail"]
    assert not [*(tmp_path / "hard").iterdir()]


def test_bodies_that_are_no_json(client: TestClient) -> None:
    assert client.post("/v1/feedback", content=b"{").status_code == 422
    assert client.post("/v1/feedback", content=b"[" * 150_000).status_code == 413
    assert client.post("/v1/feedback", content=b" " * 300_000).status_code == 413
    large = picture_file(np.zeros((400, 400, 3), np.uint8))
    answer = client.post("/v1/feedback", json=body(data=base64.b64encode(large).decode()))
    assert answer.status_code == 422


def test_a_full_folder_and_a_full_disk_are_507(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("maskwatch.hard_cases.proposal_xml", full)
        answer = client.post("/v1/feedback", json=body())
    assert answer.status_code == 507
    assert "No space left" in answer.json()["detail"]
    assert not [*(tmp_path / "hard").iterdir()]
    assert client.post("/v1/feedback", json=body()).json() == {"kept": True}


def test_the_limits_of_the_folder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.serve.api.feedback._A_SECOND", 1000.0)
    monkeypatch.setattr("maskwatch.hard_cases.HardCaseLimits", lambda: HardCaseLimits(most_pictures=1))
    with client_of(tiny_model, keep_hard=tmp_path) as client:
        assert client.post("/v1/feedback", json=body(0)).json() == {"kept": True}
        answer = client.post("/v1/feedback", json=body(1))
        assert answer.status_code == 507
        assert "which is the limit" in answer.json()["detail"]


def test_a_client_sends_one_a_second(tiny_model: Path, tmp_path: Path) -> None:
    with client_of(tiny_model, keep_hard=tmp_path) as client:
        assert client.post("/v1/feedback", json=body(0)).status_code == 200
        answer = client.post("/v1/feedback", json=body(1))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_the_token_protects_it(tiny_model: Path, tmp_path: Path) -> None:
    with client_of(tiny_model, keep_hard=tmp_path, token=TOKEN) as client:
        assert client.post("/v1/feedback", json=body()).status_code == 401
        assert client.post("/v1/feedback", json=body(), headers=BEARER).status_code == 200


def test_old_cases_are_deleted_by_the_service(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="needs the extra 'live'")
    old = tmp_path / "20200101T000000Z_door_t-_wrong_00aa11bb.jpg"
    old.write_bytes(b"\xff\xd8\xff")
    with client_of(tiny_model, keep_hard=tmp_path, retain_days=30.0) as client:
        client.get(f"{LOCAL}/healthz")
    assert not old.exists()
    with (
        pytest.raises(OptionError, match="--retain"),
        client_of(tiny_model, keep_hard=tmp_path, retain_days=-1),
    ):
        pass


def test_the_options_of_the_command(tmp_path: Path) -> None:
    from maskwatch.cli.serve import ServeOptions, _settings
    from maskwatch.live.sinks.settings import SinkSettings

    options = ServeOptions(keep_hard=tmp_path, retain=3.0, sinks=SinkSettings())
    settings = _settings(options)
    assert (settings.keep_hard, settings.retain_days, settings.watch) == (tmp_path, 3.0, None)
    with pytest.raises(OptionError, match=r"--retain 3\.0 is about what is watched; add --watch SOURCE"):
        _settings(ServeOptions(retain=3.0, sinks=SinkSettings()))
    watching = _settings(ServeOptions(watch=["0"], keep_hard=tmp_path, sinks=SinkSettings())).watch
    assert watching is not None
    assert watching.keep_hard == tmp_path

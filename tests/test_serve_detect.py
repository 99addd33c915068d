"""`POST /v1/detect`: three kinds of bodies, options, limits, errors."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from starlette.testclient import TestClient

from maskwatch.cli.app import main
from maskwatch.detector import Detector
from maskwatch.serve.api.detect import _accepted_type
from maskwatch.serve.app import create_app
from maskwatch.serve.settings import ServeSettings
from serving import LOCAL, client_of, picture_file

DETECTIONS = [
    {"class": "mask", "class_id": 0, "score": 0.6471, "box": [16.0, 0.0, 32.0, 16.0]},
    {"class": "no_mask", "class_id": 1, "score": 0.6471, "box": [0.0, 32.0, 16.0, 48.0]},
    {"class": "mask_incorrect", "class_id": 2, "score": 0.6471, "box": [48.0, 48.0, 64.0, 64.0]},
]


@pytest.fixture(scope="module")
def cells() -> bytes:
    """As the fixture `street`, less bright, so that a threshold can be above."""
    image = np.full((64, 64, 3), 90, np.uint8)
    image[0:16, 16:32] = (90, 255, 90)
    image[32:48, 0:16] = (255, 90, 90)
    image[48:64, 48:64] = (90, 90, 255)
    return picture_file(image)


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Iterator[TestClient]:
    with client_of(tiny_model, {"max_images": 3, "max_bytes": 100_000, "max_pixels": 100_000}) as client:
        yield client


def detect(client: TestClient, cells: bytes, query: str = "", **more: str) -> dict:
    answer = client.post(f"/v1/detect{query}", content=cells, headers={"Content-Type": "image/png", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer, status: int, *texts: str) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail", "instance"} <= body.keys()
    for text in texts:
        assert text in body["detail"]
    return body


def test_a_picture_as_it_is(client: TestClient, cells: bytes) -> None:
    answer = detect(client, cells)
    assert answer["schema"] == "maskwatch.detections/1"
    assert answer["model"] == {
        "name": "tiny",
        "version": "1",
        "classes": ["mask", "no_mask", "mask_incorrect"],
        "thresholds": {"mask": 0.5, "no_mask": 0.4, "mask_incorrect": 0.3},
    }
    assert answer["failures"] == []
    (result,) = answer["results"]
    assert sorted(result.pop("detections"), key=lambda one: one["class_id"]) == DETECTIONS
    assert result == {
        "index": 0, "source": "picture", "kind": "picture", "frame": None, "time_s": None,
        "width": 64, "height": 64,
    }  # fmt: skip


def test_same_document_as_the_command(
    client: TestClient, cells: bytes, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").write_bytes(cells)
    Path("torn.png").write_bytes(cells[:60])
    with pytest.raises(SystemExit):
        main(["detect", "a.png", "torn.png", "--model", str(tiny_model), "--json", "out.json"])
    files = [("images", ("a.png", cells)), ("images", ("torn.png", cells[:60]))]
    answer = client.post("/v1/detect", files=files).json()
    assert [one.pop("index") for one in (*answer["results"], *answer["failures"])] == [0, 1]
    assert answer == json.loads(Path("out.json").read_text())


def test_a_form_of_several(client: TestClient, cells: bytes) -> None:
    files = [("images", ("a.png", cells)), ("images", ("b.txt", b"no picture")), ("other", ("c.png", cells))]
    answer = client.post("/v1/detect", files=files, data={"note": "of today"}).json()
    assert [(one["index"], one["source"]) for one in answer["results"]] == [(0, "a.png"), (2, "c.png")]
    (failure,) = answer["failures"]
    assert (failure["index"], failure["source"]) == (1, "b.txt")
    assert failure["reason"].startswith("not a picture")


def test_json_with_base64(client: TestClient, cells: bytes) -> None:
    text = base64.b64encode(cells).decode()
    answer = client.post("/v1/detect", json={"images": [{"name": "a", "data": text}, {"data": text}]}).json()
    assert [one["source"] for one in answer["results"]] == ["a", "picture-2"]
    assert answer["results"][0]["detections"] == answer["results"][1]["detections"]


def test_content_decides_not_its_declared_type(client: TestClient, cells: bytes) -> None:
    for kind in ("image/jpeg", "application/octet-stream", "image/svg+xml"):
        assert len(detect(client, cells, **{"Content-Type": kind})["results"][0]["detections"]) == 3


def test_options(client: TestClient, cells: bytes) -> None:
    (result,) = detect(client, cells, "?classes=no_mask&name=door%2Fa.png")["results"]
    assert result["source"] == "door/a.png"
    assert result["detections"] == [DETECTIONS[1]]
    answer = detect(client, cells, "?threshold=mask=0.7,mask_incorrect=0.8&model=tiny")
    assert [one["class"] for one in answer["results"][0]["detections"]] == ["no_mask"]
    assert answer["model"]["thresholds"] == {"mask": 0.7, "no_mask": 0.4, "mask_incorrect": 0.8}
    assert detect(client, cells, "?threshold=0.65")["results"][0]["detections"] == []


def test_drawn_picture(client: TestClient, cells: bytes) -> None:
    (result,) = detect(client, cells, "?annotate=1")["results"]
    head, _, text = result["annotated"].partition(",")
    assert head == "data:image/jpeg;base64"
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert drawn.shape == (64, 64, 3)
    assert np.abs(drawn.astype(int) - np.asarray(Image.open(io.BytesIO(cells)))).max() > 100
    assert "annotated" not in detect(client, cells)["results"][0]


def test_drawn_picture_itself(client: TestClient, cells: bytes) -> None:
    for accept, kind in (("image/png", "PNG"), ("text/html, image/jpeg;q=0.9, */*;q=0.1", "JPEG")):
        answer = client.post(
            "/v1/detect?annotate=1",
            content=cells,
            headers={"Accept": accept, "Content-Type": "image/png"},
        )
        assert Image.open(io.BytesIO(answer.content)).format == kind
        assert answer.headers["content-type"] == f"image/{kind.lower()}"


def test_blurred_picture_has_no_face(client: TestClient, cells: bytes) -> None:
    """A pattern in a cell is gone, also where its class is not reported; the rest of the picture stays."""
    image = np.asarray(Image.open(io.BytesIO(cells))).copy()
    image[0:16:2, 16:32] = (200, 255, 200)
    answer = client.post(
        "/v1/detect?annotate=1&blur=1&classes=mask_incorrect",
        content=picture_file(image),
        headers={"Accept": "image/png", "Content-Type": "image/png"},
    )
    drawn = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    rows = drawn[2:14, 24]
    assert np.abs(np.diff(rows, axis=0)).max() < 60  # it was 110 from row to row
    assert (drawn[20:30, 36:] == 90).all()


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", None),
        ("*/*", None),
        ("image/png", "png"),
        ("image/jpeg;q=0.5, image/png;q=0.8", "png"),
        ("image/jpeg;q=0", None),
        ("image/jpeg;q=x", None),
        ("application/json, image/png", None),
    ],
)
def test_accept(accept: str, wanted: str | None) -> None:
    assert _accepted_type(accept) == wanted


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("?threshold=2", ("2.0", "0 to 1")),
        ("?threshold=nan", ("nan",)),
        ("?threshold=a=b=c", ("'a=b=c'", "write 0.5")),
        ("?threshold=hat=0.5", ("'hat'", "use mask")),
        ("?classes=hat", ("'hat'",)),
        ("?classes=", ("''",)),
        ("?model=big", ("'big'", "choose one of tiny")),
        ("?annotate=maybe", ("annotate", "'maybe'")),
        ("?blur=1", ("annotate=1",)),
    ],
)
def test_bad_options(client: TestClient, cells: bytes, query: str, texts: tuple[str, ...]) -> None:
    problem(client.post(f"/v1/detect{query}", content=cells), 422, *texts)


def test_bad_bodies(client: TestClient, cells: bytes) -> None:
    post = client.post
    body = problem(post("/v1/detect", content=b""), 422, "empty")
    assert body["failures"][0]["source"] == "picture"
    problem(post("/v1/detect", content=b"x" * 50), 422, "not a picture")
    html = {"Content-Type": "text/html"}
    problem(post("/v1/detect", content=b"<p>no picture", headers=html), 415, "'text/html'", "not a picture")
    problem(post("/v1/detect", content=cells, headers={"Content-Encoding": "gzip"}), 415, "'gzip'")
    problem(post("/v1/detect", content=b"x" * 100_001), 413, "100001", "100000")
    chunks = iter([b"x" * 60_000, b"x" * 60_000])
    problem(post("/v1/detect", content=chunks), 413, "more than 100000")
    problem(post("/v1/detect", files=[("images", (f"{i}", cells)) for i in range(4)]), 413, "the limit is 3")
    problem(post("/v1/detect", files={"photo": (None, "text")}), 422, "'photo' of 4 bytes", "'images'")
    body = problem(post("/v1/detect", files={"images": (None, "text"), "x": b""}), 422, "not a picture")
    assert [one["source"] for one in body["failures"]] == ["picture-1", "upload"]
    form = {"Content-Type": "multipart/form-data"}
    problem(post("/v1/detect", content=cells, headers=form), 400, "boundary")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 422, "JSON"),
        (b"[" * 50_000, 422, "recursion"),
        (b"[]", 422, "object"),
        (b"{}", 422, "images"),
        (b'{"images": []}', 422, "images"),
        (b'{"images": [{"data": "AAAAA"}]}', 422, "Base64"),
        (b'{"images": [{}]}', 422, "exactly one"),
        (b'{"images": [{"data": "AAAA", "url": "http://example.org"}]}', 422, "exactly one"),
        (b'{"images": [{"data": "AAAA", "path": "/etc/passwd"}]}', 422, "path"),
        (b'{"images": [{"url": "http://example.org/a.jpg"}]}', 422, "fetches no addresses"),
        (b'{"images": [' + b",".join([b'{"data": "AAAA"}'] * 4) + b"]}", 413, "4 pictures"),
        (b'{"images": [{"name": "\\ud800", "data": "AAAA"}]}', 422, ""),
        (b"\xff\xfe", 422, ""),
    ],
)
def test_bad_json(client: TestClient, body: bytes, status: int, text: str) -> None:
    answer = client.post("/v1/detect", content=body, headers={"Content-Type": "application/json"})
    problem(answer, status, text)


def test_pixels_are_counted_before_decoding(client: TestClient) -> None:
    wide = picture_file(np.zeros((1000, 1000, 3), np.uint8))
    assert len(wide) < 10_000
    problem(client.post("/v1/detect", content=wide), 422, "1000x1000", "0.1")


def test_other_addresses(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404, "/v1/nothing")
    answer = client.get("/v1/detect")
    problem(answer, 405, "GET")
    assert answer.headers["allow"] == "POST"
    problem(client.get("/v1/watch"), 404)


def test_models(client: TestClient, tiny_model: Path) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model["name"] == "tiny"
    assert model["default"] is True
    assert model["input_size"] == [64, 64]
    whole = client.get(model["file"])
    assert whole.content == tiny_model.read_bytes()
    assert "immutable" in whole.headers["cache-control"]
    plain = client.get("/v1/models/tiny.onnx")
    assert plain.headers["cache-control"] == "private, no-cache"
    tag = plain.headers["etag"]
    again = client.get("/v1/models/tiny.onnx", headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    head = client.head("/v1/models/tiny.onnx")
    assert int(head.headers["content-length"]) == tiny_model.stat().st_size
    problem(client.get("/v1/models/other.onnx"), 404, "'other'")
    problem(client.get("/v1/models/..%2F..%2Fsecret.onnx"), 404)


def test_a_defect_is_a_problem_too(tiny_model: Path, cells: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of ours")

    with client_of(tiny_model) as client:
        monkeypatch.setattr(Detector, "run", broken)
        body = problem(client.post("/v1/detect", content=cells), 500, "a bug in the service")
        assert "secret" not in json.dumps(body)
        monkeypatch.undo()
        assert client.post("/v1/detect", content=cells).status_code == 200


def test_metrics(client: TestClient, cells: bytes) -> None:
    def value(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = (
        'maskwatch_detections_total{class="mask",model="tiny"}',
        'maskwatch_pictures_total{result="failed"}',
        'maskwatch_requests_total{method="POST",path="/v1/detect",status="422"}',
        'maskwatch_stage_seconds_count{stage="detect"}',
        'maskwatch_stage_seconds_count{stage="queue"}',
        'maskwatch_stage_seconds_count{stage="encode"}',
    )
    before = [value(name) for name in names]
    detect(client, cells, "?annotate=1")
    client.post("/v1/detect", content=b"no picture")
    assert [value(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 1, 1, 1, 1]
    assert value("maskwatch_queue_pictures") == 0


def test_several_models(tiny_embedded: Path, cells: bytes) -> None:
    app = create_app(ServeSettings(models=("maskwatch-320", "maskwatch-640"), threads=1, threshold=0.6))
    with TestClient(app, base_url=LOCAL) as client:
        models = client.get("/v1/models").json()["models"]
        assert [(one["name"], one["default"]) for one in models] == [
            ("maskwatch-320", True),
            ("maskwatch-640", False),
        ]
        assert detect(client, cells)["model"]["thresholds"]["mask"] == 0.6
        assert detect(client, cells, "?model=maskwatch-640")["model"]["name"] == "maskwatch-640"


def test_openapi_describes_it(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"]["/v1/detect"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/jpeg", "application/json"} <= body.keys()
    example = body["application/json"]["example"]
    assert client.post("/v1/detect", json=example).json()["results"][0]["width"] == 1
    answers = document["paths"]["/v1/detect"]["post"]["responses"]
    assert {"200", "413", "415", "422", "503"} <= answers.keys()
    assert "application/problem+json" in answers["422"]["content"]

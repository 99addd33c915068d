"""A model server as the runtime: behind KServe's protocol, the exported folder gives what the file gives."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kserve_server import Served, model_server
from maskwatch import Detector
from maskwatch.cli.app import main
from maskwatch.errors import ModelServerError, OptionError
from maskwatch.runtimes import kserve
from maskwatch.runtimes.choice import RuntimeSettings

ROOT = Path(__file__).parents[1]
PICTURES = [str(ROOT / "examples" / name) for name in ("astronaut.jpg", "astronaut_masked.jpg")]
MODEL = "maskwatch-320"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `maskwatch export --to triton` writes it, without its measurements."""
    from maskwatch.export.formats.base import ConvertOptions
    from maskwatch.export.formats.servers import write_triton
    from maskwatch.models import load_model_file

    folder = tmp_path_factory.mktemp("repository")
    write_triton(load_model_file(MODEL), folder, ConvertOptions())
    return folder


@pytest.fixture
def served(repository: Path) -> Iterator[Served]:
    with model_server(repository) as server:
        yield server


@pytest.fixture(scope="module")
def local() -> Detector:
    return Detector(MODEL, runtime="onnxruntime", device="cpu", precision="float32")


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    assert [len(one) for one in ours] == [len(one) for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
        np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)
        assert one.data["class_name"].tolist() == other.data["class_name"].tolist()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    "address", ["{}", "{}/", "{}/v2/models/maskwatch-320", "{}/v2/models/maskwatch-320/versions/1"]
)
def test_gives_what_the_file_gives_here(served: Served, local: Detector, address: str, binary: bool) -> None:
    served.binary = binary
    remote = Detector(MODEL, runtime=address.format(served.url))
    assert str(remote.backend) == "kserve, remote, unknown"
    assert sum(map(len, local(PICTURES))) >= 2
    assert_same(local(PICTURES), remote(PICTURES))
    assert_same([local(PICTURES[0], threshold=0.01)], [remote(PICTURES[0], threshold=0.01)])


def test_options_reach_the_server(served: Served, local: Detector) -> None:
    for options in ({"iou_threshold": 0.99}, {"class_agnostic": False}):
        remote = Detector(MODEL, runtime=served.url, threshold=0.001, **options)
        here = Detector(
            MODEL, runtime="onnxruntime", device="cpu", precision="float32", threshold=0.001, **options
        )
        assert len(here(PICTURES[0])) != len(local(PICTURES[0], threshold=0.001))
        assert_same([here(PICTURES[0])], [remote(PICTURES[0])])


def test_defaults_are_those_of_the_file(served: Served, repository: Path) -> None:
    """The request holds all options, since OpenVINO has no optional inputs."""
    from maskwatch.runtimes.onnx_runtime import OnnxRuntime

    model = repository / MODEL / "1" / "model.onnx"
    batch_nhwc, _ = Detector(MODEL).prepare(PICTURES)
    ours, theirs = OnnxRuntime(model)(batch_nhwc), kserve.ModelServer(model, served.url)(batch_nhwc)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
    assert ours.num_detections.tolist() == theirs.num_detections.tolist()


def test_threads_and_closed_connections(served: Served, local: Detector) -> None:
    remote = Detector(MODEL, runtime=served.url)
    expected = local(PICTURES)
    served.close = True  # as an idle server does: the client does not learn of it before it sends
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(lambda _: remote(PICTURES), range(6)):
            assert_same(expected, found)


def test_user_and_password_go_to_the_server_alone(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    address = served.url.replace("://", "://anna:s%40cret@")
    Detector(MODEL, runtime=address)
    assert served.requests[-1] == ("/v2/models/maskwatch-320", "Basic YW5uYTpzQGNyZXQ=")
    with pytest.raises(SystemExit):
        main(["detect", PICTURES[0], "--model", "maskwatch-640", "--runtime", address])
    error = capsys.readouterr().err
    assert "maskwatch-640" in error
    assert "cret" not in error


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (500, b'{"error": "out of\\nmemory"}', "says 500 (out of memory)"),
        (503, b"<html>", "says 503 Service Unavailable"),
        (200, b"<html>", "something else than detections"),
        (200, b'{"outputs": []}', "something else than detections ('boxes')"),
        (
            200,
            json.dumps(
                {
                    "outputs": [
                        {"name": "boxes", "datatype": "FP32", "shape": [1, 1, 4], "data": [0, 0, 1, 1]},
                        {"name": "scores", "datatype": "FP32", "shape": [1, 1], "data": [0.5]},
                        {"name": "classes", "datatype": "INT64", "shape": [1, 1], "data": [7]},
                        {"name": "num_detections", "datatype": "INT64", "shape": [1], "data": [1]},
                    ]
                }
            ).encode(),
            "something else than detections (class 7 of 3)",
        ),
    ],
)
def test_wrong_answers_are_one_line(served: Served, status: int, body: bytes, text: str) -> None:
    remote = Detector(MODEL, runtime=served.url)
    served.answer = (status, body)
    with pytest.raises(ModelServerError) as error:
        remote(PICTURES[0])
    assert text in str(error.value)
    assert str(error.value).startswith(f"{served.url}: the model server ")
    assert "\n" not in str(error.value)


def test_another_model_is_refused(served: Served) -> None:
    with pytest.raises(ModelServerError, match=r"says 404 \(Request for unknown model"):
        Detector("maskwatch-640", runtime=served.url)
    with pytest.raises(
        ModelServerError, match=r"images UINT8 \[-1, 320, 320, 3\], not UINT8 \[0, 640, 640, 3\]"
    ):
        Detector("maskwatch-640", runtime=f"{served.url}/v2/models/{MODEL}")
    del served.metadata[MODEL]["inputs"][1]
    with pytest.raises(ModelServerError, match="has a model with inputs"):
        Detector(MODEL, runtime=served.url)


def test_a_server_that_is_away_or_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kserve, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ModelServerError, match=r"did not answer within 0\.2 s; check its address"):
            Detector(MODEL, runtime=url)
    with pytest.raises(SystemExit) as ended:
        main(["detect", PICTURES[0], "--model", MODEL, "--runtime", url])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {url}: the model server cannot be reached (Connection refused); check")


@pytest.mark.parametrize(
    ("runtime", "rest", "text"),
    [
        ("grpc://host:8001", {}, "'grpc://host:8001' is not the HTTP address of a model server"),
        ("http://", {}, "write it like http://host:8000"),
        ("http://host:8000/?x=1", {}, "is not the HTTP address"),
        ("http://host:8000", {"device": "cuda"}, "a model server decides that itself"),
        ("http://host:8000", {"precision": "float16"}, "a model server decides that itself"),
    ],
)
def test_invalid_addresses(runtime: str, rest: dict[str, str], text: str) -> None:
    with pytest.raises(OptionError, match=text.replace("?", r"\?")):
        RuntimeSettings(runtime, **rest)


def test_environment_names_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWATCH_RUNTIME", "http://host:8000")
    assert RuntimeSettings().server == "http://host:8000"
    assert RuntimeSettings("onnxruntime").server is None


def test_the_service_in_front_of_it(served: Served, local: Detector) -> None:
    """503 while the server is away: a client may come back."""
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    pytest.importorskip("httpx2", reason="Starlette's test client needs it")
    from serving import STREAM, client_of

    picture = Path(PICTURES[0]).read_bytes()
    with client_of(Path(MODEL), runtime=RuntimeSettings(served.url)) as client:
        (found,) = client.post("/v1/detect", content=picture).json()["results"]
        expected = local(PICTURES[0])
        np.testing.assert_allclose([face["box"] for face in found["detections"]], expected.xyxy, atol=0.01)
        (model,) = client.get("/v1/models").json()["models"]
        assert model["backend"] == {"runtime": "kserve", "device": "remote", "precision": "unknown"}
        served.answer = (500, b"")
        answer = client.post("/v1/detect", content=picture)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert served.url not in answer.text
        with client.websocket_connect(STREAM) as stream:
            stream.send_bytes(bytes(8) + picture)
            assert stream.receive_json()["problem"]["status"] == 503

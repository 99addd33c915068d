"""A model server for tests: KServe's protocol (v2) over HTTP, with a folder of `export --to triton`."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from maskwatch.tf_compat import textproto

DATATYPES = {"TYPE_UINT8": "UINT8", "TYPE_FP32": "FP32", "TYPE_BOOL": "BOOL", "TYPE_INT64": "INT64"}
KINDS = {"UINT8": np.uint8, "FP32": np.float32, "BOOL": np.bool_, "INT64": np.int64}
LENGTH = "Inference-Header-Content-Length"


class Served:
    """The models of a Triton repository.

    Attributes:
        binary: whether answers hold binary tensors; otherwise they are JSON.
        close: whether a connection ends, without a word, after each answer.
        answer: a status and a body in place of every answer to a request for inference.
        requests: path and `Authorization` of each request.
        url: of the server.
    """

    def __init__(self, repository: Path) -> None:
        self.binary, self.close = True, False
        self.answer: tuple[int, bytes] | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.url = ""
        self.metadata, self.sessions = {}, {}
        for config in repository.glob("*/config.pbtxt"):
            message = textproto.parse(config.read_text("utf-8"))
            name = str(message["name"][0])
            self.metadata[name] = {
                "name": name,
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                **{f"{side}s": [tensor(one) for one in message[side]] for side in ("input", "output")},
            }
            self.sessions[name] = ort.InferenceSession(config.parent / "1" / "model.onnx")

    def infer(self, name: str, body: bytes, length: int) -> tuple[bytes, int]:
        """Body and length of the JSON in it."""
        request, at, feeds = json.loads(body[:length]), length, {}
        for one in request["inputs"]:
            size = one["parameters"]["binary_data_size"]
            array = np.frombuffer(body[at : at + size], KINDS[one["datatype"]])
            feeds[one["name"]] = array.reshape(one["shape"])
            at += size
        assert at == len(body)
        names = [one["name"] for one in request["outputs"]]
        types = {one["name"]: one["datatype"] for one in self.metadata[name]["outputs"]}
        described, tail = [], b""
        for output, array in zip(names, self.sessions[name].run(names, feeds), strict=True):
            about = {"name": output, "datatype": types[output], "shape": list(array.shape)}
            if self.binary:
                described.append({**about, "parameters": {"binary_data_size": array.nbytes}})
                tail += array.tobytes()
            else:
                described.append({**about, "data": array.ravel().tolist()})
        head = json.dumps({"model_name": name, "outputs": described}).encode()
        return head + tail, len(head)


def tensor(message: Any) -> dict[str, Any]:
    return {
        "name": str(message["name"][0]),
        "datatype": DATATYPES[message["data_type"][0].name],
        "shape": [int(side) for side in message["dims"]],
    }


@contextlib.contextmanager
def model_server(repository: Path) -> Iterator[Served]:
    served = Served(repository)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.name()
            if name in served.metadata:
                self.say(200, json.dumps(served.metadata[name]).encode())
            else:
                self.say(
                    404, json.dumps({"error": f"Request for unknown model: '{name}' is not found"}).encode()
                )

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = self.name()
            if served.answer is not None:
                self.say(*served.answer)
                return
            data, length = served.infer(name, body, int(self.headers[LENGTH]))
            self.say(200, data, **({LENGTH: str(length)} if served.binary else {}))

        def name(self) -> str:
            served.requests.append((self.path, self.headers["Authorization"]))
            return self.path.removeprefix("/v2/models/").partition("/")[0]

        def say(self, status: int, data: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = served.close

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()

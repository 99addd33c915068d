"""A model server elsewhere, by KServe's HTTP protocol: Triton, OpenVINO Model Server and others speak it.

The model file here says what the classes, thresholds and sizes are; the server computes with its copy.

Sources: the Open Inference Protocol (KServe v2), REST, and its binary tensor data extension, by Triton.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskwatch._version import __version__
from maskwatch.errors import ModelServerError, OptionError
from maskwatch.media.images import FloatArray, UInt8Array
from maskwatch.models import IOU_THRESHOLD, load_model_file
from maskwatch.net.addresses import Address, without_credentials
from maskwatch.runtimes.base import OPTIONAL_INPUTS, OUTPUTS, SERVER_BACKEND, RawDetections, option_feeds
from maskwatch.text import first_line

TIMEOUT_S = 30.0
"""Longest silence of the server, and the limit for reading an answer."""

_MAX_BYTES = 64 << 20
_CHUNK = 1 << 16
_JSON_LENGTH = "Inference-Header-Content-Length"
_DATATYPES = {"UINT8": "u1", "FP32": "<f4", "BOOL": "?", "INT64": "<i8"}
_OF_INPUT = {"images": "UINT8", "score_thresholds": "FP32", "iou_threshold": "FP32", "class_agnostic": "BOOL"}
_SHAPES = {"boxes": 3, "scores": 2, "classes": 2, "num_detections": 1}  # sides of each output


class ModelServer:
    """A model on a server; may be called from several threads at once, each with an own open connection.

    Args:
        path: the same model file as on the server.
        url: `http[s]://[user:password@]host[:port]`, to which `/v2/models/NAME` is added with the name of the
            model, or an address with a path, such as one that ends in `/versions/1`.

    Raises:
        OptionError: that is not an address of a server.
        ModelFileError: the file is not a Maskwatch model.
        ModelServerError: the server cannot be reached, or has another model.
    """

    backend = SERVER_BACKEND

    def __init__(self, path: str | Path, url: str) -> None:
        self._metadata = load_model_file(path).metadata
        self._address = parse_server(url)
        self._path = self._address.path.rstrip("/") or f"/v2/models/{self._metadata.name}"
        self._shown = f"{without_credentials(self._address.bare).removesuffix('/')}"
        self._headers = {"User-Agent": f"maskwatch/{__version__}", **_authorization(self._address)}
        self._own = threading.local()
        self._check_model(self._json(self._request("GET", self._path)[1]))

    def __call__(
        self,
        images_nhwc: UInt8Array,
        score_thresholds: FloatArray | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
    ) -> RawDetections:
        """Runs the model on uint8 (N, H, W, 3) RGB; None keeps an option at the file's default.

        Raises:
            ModelServerError: the server does not answer, or not with detections.
        """
        # All of them: OpenVINO has no optional inputs.
        thresholds: FloatArray = np.array(self._metadata.thresholds, np.float32)
        feeds = option_feeds(
            thresholds if score_thresholds is None else score_thresholds,
            IOU_THRESHOLD if iou_threshold is None else iou_threshold,
            True if class_agnostic is None else class_agnostic,
        )
        body, json_length = _encode({"images": images_nhwc, **feeds})
        headers = {"Content-Type": "application/octet-stream", _JSON_LENGTH: str(json_length)}
        answered, data = self._request("POST", f"{self._path}/infer", body, headers)
        length = answered.get(_JSON_LENGTH)
        try:
            outputs = _decode(data, len(data) if length is None else int(length))
            return _detections(outputs, len(images_nhwc), len(self._metadata.classes))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise self._error(f"answers with something else than detections ({first_line(error)})") from None

    def _check_model(self, served: Any) -> None:
        """Raises `ModelServerError` if the server's model takes or gives other tensors than the file."""
        try:
            inputs, outputs = ({one["name"]: one for one in served[key]} for key in ("inputs", "outputs"))
            shapes = {name: [int(side) for side in one["shape"]] for name, one in inputs.items()}
        except (KeyError, TypeError, ValueError):
            raise self._error("answers with something else than a model's metadata") from None
        expected = {"images": (0, *self._metadata.input_size, 3), "score_thresholds": (self._classes,)}
        if not {"images", *OPTIONAL_INPUTS} <= {*inputs} or not {*OUTPUTS} <= {*outputs}:
            raise self._error(f"has a model with inputs {sorted(inputs)} and outputs {sorted(outputs)}")
        for name, shape in expected.items():
            sides = shapes[name]
            free = len(sides) == len(shape) and all(
                have < 1 or not want or have == want for have, want in zip(sides, shape, strict=True)
            )
            if not free or inputs[name].get("datatype") != _OF_INPUT[name]:
                raise self._error(
                    f"has a model with {name} {inputs[name].get('datatype')} {sides}, "
                    f"not {_OF_INPUT[name]} {list(shape)}"
                )

    @property
    def _classes(self) -> int:
        return len(self._metadata.classes)

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            raise self._error("does not answer in JSON") from None

    def _error(self, text: str) -> ModelServerError:
        name = self._metadata.name
        return ModelServerError(
            f"{self._shown}: the model server {text}; check its address and that it serves {name}, "
            f"from: maskwatch export {name} --to triton"
        )

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPMessage, bytes]:
        """Headers and body of the answer."""
        connection = self._connection()
        kept = connection.sock is not None
        try:
            try:
                return self._exchange(connection, method, path, body, headers or {})
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                if not kept:
                    raise
                # The server had closed it meanwhile.
                return self._exchange(connection, method, path, body, headers or {})
        except TimeoutError:
            connection.close()
            raise self._error(f"did not answer within {TIMEOUT_S:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise self._error(f"cannot be reached ({_reason(error)})") from None

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[http.client.HTTPMessage, bytes]:
        connection.request(method, path, body, {**self._headers, **headers})
        with connection.getresponse() as response:
            data, end_s = bytearray(), time.monotonic() + TIMEOUT_S
            while chunk := response.read1(_CHUNK):
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise ValueError(f"an answer of more than {_MAX_BYTES >> 20} MiB")
                if time.monotonic() > end_s:
                    raise TimeoutError
            if response.status != 200:
                connection.close()
                raise self._error(f"says {response.status} {_said(bytes(data)) or response.reason}")
            return response.headers, bytes(data)

    def _connection(self) -> http.client.HTTPConnection:
        """The one of this thread; it connects at its first request, and again after it was closed."""
        if not hasattr(self._own, "connection"):
            kind = _SecureConnection if self._address.scheme == "https" else _Connection
            self._own.connection = kind(self._address.host, self._address.port, timeout=TIMEOUT_S)
        connection: http.client.HTTPConnection = self._own.connection
        return connection


class _Connection(http.client.HTTPConnection):
    """Closes with its thread."""

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    pass


def parse_server(url: str) -> Address:
    """The address of a model server; raises `OptionError` for anything else."""
    try:
        address = Address.parse(url)
    except ValueError as error:
        raise OptionError(
            f"runtime {without_credentials(url)!r}: {error}; write it like http://host:8000"
        ) from None
    if address.scheme not in ("http", "https") or address.rest != address.path:
        raise OptionError(
            f"runtime {without_credentials(url)!r} is not the HTTP address of a model server; write it like "
            "http://host:8000"
        )
    return address


def _authorization(address: Address) -> dict[str, str]:
    if address.user is None:
        return {}
    pair = f"{address.user}:{address.password or ''}".encode("utf-8", "surrogateescape")
    return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}


def _encode(feeds: Mapping[str, npt.NDArray[Any]]) -> tuple[bytes, int]:
    """The body of a request: JSON, then the tensors' bytes; and the length of the JSON."""
    arrays = {name: np.ascontiguousarray(value, _DATATYPES[_OF_INPUT[name]]) for name, value in feeds.items()}
    inputs = [
        {
            "name": name,
            "datatype": _OF_INPUT[name],
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in arrays.items()
    ]
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode("ascii")
    return b"".join([head, *(array.tobytes() for array in arrays.values())]), len(head)


def _decode(data: bytes, json_length: int) -> dict[str, npt.NDArray[Any]]:
    """The outputs in an answer, by name; a server without the binary extension writes them into the JSON.

    Raises:
        KeyError, TypeError, ValueError: it is not as the protocol has it.
    """
    outputs, at = {}, json_length
    for one in json.loads(data[:json_length])["outputs"]:
        kind, size = _DATATYPES[one["datatype"]], one.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(one["data"], kind)
        else:
            array = np.frombuffer(data[at : at + size], kind)
            at += size
        outputs[one["name"]] = array.reshape(one["shape"])
    return outputs


def _detections(outputs: Mapping[str, npt.NDArray[Any]], pictures: int, classes: int) -> RawDetections:
    """The outputs of so many pictures, checked; `KeyError` or `ValueError` where they are not detections."""
    arrays = [outputs[name] for name in OUTPUTS]
    for name, array in zip(OUTPUTS, arrays, strict=True):
        if array.ndim != _SHAPES[name] or len(array) != pictures:
            raise ValueError(f"{name} of shape {array.shape} for {pictures} pictures")
    found = RawDetections(*arrays)
    most = found.scores.shape[1]
    if found.boxes.shape[1:] != (most, 4) or found.classes.shape[1] != most:
        raise ValueError(f"boxes of shape {found.boxes.shape}, scores of shape {found.scores.shape}")
    if most and not -1 <= found.classes.min() <= found.classes.max() < classes:
        raise ValueError(f"class {found.classes.max()} of {classes}")
    return found


def _said(data: bytes) -> str:
    """The message of an error, in one short line."""
    try:
        text = json.loads(data)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f"({' '.join(str(text).split())[:200]})"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

"""Requests and messages of a service's API, and how its answers are read; nothing here does any I/O."""

from __future__ import annotations

import base64
import json
import re
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import unquote

import cv2
import httpx2
from PIL import Image

from maskwatch._version import __version__
from maskwatch.client import errors
from maskwatch.client.answers import Answer, FrameAnswer, Model
from maskwatch.errors import ImageError, OptionError, ServiceError
from maskwatch.media.images import ImageInput, as_rgb
from maskwatch.net.address_guard import is_loopback
from maskwatch.net.addresses import Address, shown_argument, without_credentials

Threshold: TypeAlias = "float | Mapping[str, float]"
Classes: TypeAlias = "str | Sequence[str]"
T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8765"
TIMEOUT_S = 60.0
RETRIES = 3
FRAMES_AHEAD = 2  # frames in flight at once: the service works on one while the next one travels
_SEQUENCE = struct.Struct(">Q")
_JPEG_QUALITY = 92
_UNSAFE = re.compile(r"[^\w .,()+=@~-]")
_NAME_LENGTH = 100


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how to read its answer."""

    method: str
    path: str
    read: Callable[[Any], T]
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[str] = ()
    """The caller's names of the pictures in the request, in order."""


MODELS = Call("GET", "/v1/models", lambda record: tuple(map(Model.from_record, record["models"])))
TICKET = Call("POST", "/v1/ticket", lambda record: str(record["ticket"]))


def settings(url: str, token: str | None, timeout_s: float, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Arguments for either of httpx2's clients.

    Raises:
        OptionError: an unusable address, a token with characters that no header can carry.
    """
    try:
        base = httpx2.URL(Address.parse(url).url)
    except (ValueError, httpx2.InvalidURL):
        base = httpx2.URL()
    if base.scheme not in ("http", "https") or not base.host:
        raise OptionError(
            f"url is {shown_argument(url)!r}; pass the service's address, such as {DEFAULT_URL!r}"
        )
    headers = {"User-Agent": f"maskwatch-client/{__version__}", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {_checked(token)}"
    # A proxy of the environment must not see the token of two programs on one machine.
    return {
        "base_url": base,
        "headers": headers,
        "timeout": timeout_s,
        "verify": True if tls is None else tls,
        "trust_env": not is_loopback(base.host),
    }


def detect(
    images: ImageInput | list[Any] | tuple[Any, ...],
    threshold: Threshold | None,
    classes: Classes | None,
    model: str | None,
    annotate: bool,
    blur: bool,
) -> Call[Answer]:
    """The call behind `Client.detect`."""
    listed: list[ImageInput] = list(images) if isinstance(images, (list, tuple)) else [images]
    if not listed:
        raise OptionError("images is an empty list; pass at least one picture")
    sources = [
        str(image) if isinstance(image, (str, Path)) else f"picture-{index}"
        for index, image in enumerate(listed)
    ]
    names = _unique_names(sources)
    params = query(threshold, classes, model)
    params |= {name: "1" for name, wanted in (("annotate", annotate), ("blur", blur)) if wanted}
    options = _body(names, listed)
    options["params"] = params | options.get("params", {})
    return Call("POST", "/v1/detect", partial(Answer.from_record, names, sources), options, sources)


def query(threshold: Threshold | None, classes: Classes | None, model: str | None) -> dict[str, str]:
    """The query of `/v1/detect` and `/v1/stream`; None leaves a value to the service."""
    params = {}
    if isinstance(threshold, Mapping):
        params["threshold"] = ",".join(f"{name}={value}" for name, value in threshold.items())
    elif threshold is not None:
        params["threshold"] = str(threshold)
    if classes is not None:
        params["classes"] = classes if isinstance(classes, str) else ",".join(classes)
    if model is not None:
        params["model"] = model
    return params


def read_answer(call: Call[T], response: httpx2.Response) -> T:
    """Reads a response.

    Raises:
        ServiceError: the service refused, or what answered is not a Maskwatch service.
    """
    if response.status_code != 200:
        raise errors.problem(response.status_code, response.headers, response.content, call.sources)
    try:
        return call.read(response.json())
    except (ValueError, LookupError, TypeError) as error:
        where = without_credentials(str(response.url))
        raise ServiceError(
            f"{where} gave no answer of a Maskwatch service ({type(error).__name__}: {error}); "
            "check the address",
            status=response.status_code,
        ) from error


def _is_url(image: ImageInput) -> bool:
    """True for an http(s) address, which the service fetches itself."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def _body(names: Sequence[str], images: Sequence[ImageInput]) -> dict[str, Any]:
    if any(map(_is_url, images)):
        return {"json": {"images": [_entry(*pair) for pair in zip(names, images, strict=True)]}}
    files, kind = [_lossless(image) for image in images], "application/octet-stream"
    if len(files) == 1:
        return {"content": files[0], "headers": {"Content-Type": kind}, "params": {"name": names[0]}}
    return {"files": [("images", (name, file, kind)) for name, file in zip(names, files, strict=True)]}


def _entry(name: str, image: ImageInput) -> dict[str, str]:
    if _is_url(image):
        return {"name": name, "url": str(image)}
    return {"name": name, "data": base64.b64encode(_lossless(image)).decode("ascii")}


def _lossless(image: ImageInput) -> bytes:
    """So that the service sees what a `Detector` would see."""
    return _file_bytes(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _file_bytes(image: ImageInput, suffix: str, parameters: Sequence[int]) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, Path)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"{image}: {error.strerror}; check the path") from error
    ok, file = cv2.imencode(suffix, cv2.cvtColor(as_rgb(image), cv2.COLOR_RGB2BGR), parameters)
    if not ok:
        shape = image.size if isinstance(image, Image.Image) else image.shape
        size = "x".join(map(str, shape))
        raise ImageError(f"a picture of {size} cannot be written as {suffix}; make it smaller")
    return file.tobytes()


def _unique_names(sources: Sequence[str]) -> list[str]:
    """A unique name for each picture, which identifies it where an older service returns no index.

    Only the file's name, since its folder is private. Characters that a form or an address would have to
    escape are replaced, so that the same name comes back.
    """
    names = [_UNSAFE.sub("_", _file_name(source))[-_NAME_LENGTH:] or "picture" for source in sources]
    while len(counts := Counter(names)) < len(names):
        names = [f"{index}-{name}" if counts[name] > 1 else name for index, name in enumerate(names)]
    return names


def _file_name(source: str) -> str:
    if _is_url(source):
        return unquote(re.split("[?#]", source)[0].rpartition("/")[2])
    return Path(source).name


def _checked(token: str) -> str:
    # The token itself is not shown: messages end up in logs.
    if not token or not token.isascii() or any(not "!" <= letter <= "~" for letter in token):
        raise OptionError(
            "token is empty or has characters other than visible ASCII; pass the service's token"
        )
    return token


class FrameTracker:
    """Numbers the frames of a stream and counts those that are still unanswered."""

    def __init__(self) -> None:
        self._sent = self._settled = 0

    @property
    def in_flight(self) -> int:
        """Frames that were sent and neither answered nor dropped."""
        return self._sent - self._settled

    def pack(self, image: ImageInput) -> tuple[int, bytes]:
        """Number of a frame, from 1, and the message that carries it."""
        file = _file_bytes(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        self._sent += 1
        return self._sent, _SEQUENCE.pack(self._sent) + file

    def read(self, message: str | bytes) -> FrameAnswer:
        """Reads an answer.

        Raises:
            ServiceError: a setting was refused, or the message is not one of a Maskwatch service.
        """
        try:
            record = json.loads(message)
            if "seq" not in record:
                raise ServiceError(str(record["problem"]["detail"]), status=record["problem"].get("status"))
            answer = FrameAnswer.from_record(record)
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(
                f"the stream gave no answer of a Maskwatch service ({message[:80]!r}); check the address"
            ) from error
        self._settled = max(self._settled, answer.seq)
        return answer


def threshold_message(threshold: Threshold | None) -> str:
    """The message that changes the threshold from the next frame on."""
    return json.dumps({"threshold": dict(threshold) if isinstance(threshold, Mapping) else threshold})


def classes_message(classes: Classes | None) -> str:
    """The message that changes which classes are reported."""
    if isinstance(classes, str):
        classes = [name.strip() for name in classes.split(",")]
    return json.dumps({"classes": None if classes is None else list(classes)})

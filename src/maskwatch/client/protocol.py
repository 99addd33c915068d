"""What is asked of a service, and what its answer means; nothing here sends anything.

The two clients differ in how they send and wait. What they send is here, once.
"""

from __future__ import annotations

import base64
import email.utils
import json
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import unquote

import cv2
import httpx2
from PIL import Image

from maskwatch._version import __version__
from maskwatch.client.answers import Answer, Model
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

_BUSY = (429, 503)
_PATIENCE_S = 60.0
"""Who is told to come again later than this is told so by an error."""

_PROBLEM = "application/problem+json"
_JPEG_QUALITY = 92
_UNSAFE = re.compile(r"[^\w .,()+=@~-]")
_NAME_LENGTH = 100


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[Any], T]
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Sequence[str] = ()
    """What the caller knows the pictures of the request by, in order."""


def settings(url: str, token: str | None, timeout_s: float, tls: ssl.SSLContext | None) -> dict[str, Any]:
    """Arguments for either of httpx2's clients.

    Raises:
        OptionError: an address that is none, a token with characters that no header can carry.
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
    # A proxy of the environment has no business between two programs of this machine, nor has it their token.
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
    sources = [source_of(image, index) for index, image in enumerate(listed)]
    names = _different(sources)
    params = query(threshold, classes, model)
    params |= {name: "1" for name, wanted in (("annotate", annotate), ("blur", blur)) if wanted}
    options = _body(names, listed)
    options["params"] = params | options.get("params", {})
    return Call(
        "POST", "/v1/detect", lambda record: Answer.from_record(record, names, sources), options, sources
    )


def models() -> Call[tuple[Model, ...]]:
    """The call behind `Client.models`."""
    return Call("GET", "/v1/models", lambda record: tuple(map(Model.from_record, record["models"])))


def ticket() -> Call[str]:
    """The call behind `Client.ticket`."""
    return Call("POST", "/v1/ticket", lambda record: str(record["ticket"]))


def query(threshold: Threshold | None, classes: Classes | None, model: str | None) -> dict[str, str]:
    """The query of `/v1/detect` and `/v1/stream`; what is None is left to the service."""
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


def frame_bytes(image: ImageInput) -> bytes:
    """A frame as it is sent: a file as it is, everything else as a JPEG."""
    return _file_bytes(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])


def read_answer(call: Call[T], response: httpx2.Response) -> T:
    """What an answer says.

    Raises:
        ServiceError: the service said no, or what answered is no Maskwatch service.
    """
    if response.status_code != 200:
        raise problem(response.status_code, response.headers, response.content, call.sources)
    try:
        return call.read(response.json())
    except (ValueError, KeyError, TypeError) as error:
        where = without_credentials(str(response.url))
        raise ServiceError(
            f"{where} gave no answer of a Maskwatch service ({type(error).__name__}: {error}); "
            "check the address",
            status=response.status_code,
        ) from error


def problem(
    status: int, headers: Mapping[str, str], body: bytes, sources: Sequence[str] = ()
) -> ServiceError:
    """An answer that says no, as an error: RFC 9457 where it is that, else its first line."""
    failures: list[tuple[str, str]] = []
    try:
        if not headers.get("content-type", "").startswith(_PROBLEM):
            raise ValueError
        record = json.loads(body)
        detail = str(record["detail"])
        failures = [(_source_in(one, sources), str(one["reason"])) for one in record.get("failures", [])]
    except (ValueError, KeyError, TypeError, IndexError):
        words = body.decode("utf-8", "replace").strip().splitlines()
        detail = f"the service answered {status} {words[0][:200] if words else ''}".rstrip()
        detail += "; look at its log, and at that of a proxy before it"
    after_s = _retry_after_s(headers.get("retry-after"))
    return ServiceError(detail, status=status, retry_after_s=after_s, failures=failures)


def _source_in(record: Mapping[str, Any], sources: Sequence[str]) -> str:
    index = record.get("index")
    return str(record["source"]) if index is None or not sources else sources[int(index)]


def unreachable(base_url: httpx2.URL, error: Exception) -> ServiceError:
    """A request or stream that got no answer, as an error."""
    why, where = str(error) or type(error).__name__, without_credentials(str(base_url))
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return ServiceError(f"{where} did not answer in time ({why}); ask again, or raise timeout_s")
    if "CERTIFICATE_VERIFY_FAILED" in why:
        return ServiceError(f"{where} has a certificate that is not trusted ({why}); pass its issuer as tls")
    return ServiceError(f"{where} cannot be reached ({why}); start it with: maskwatch serve")


def pause_s(error: ServiceError, tried: int, retries: int) -> float | None:
    """Seconds to wait before the next try; None where the error stands.

    Args:
        error: what the last try gave.
        tried: tries until now, at least 1.
        retries: tries after the first one.
    """
    if error.status not in _BUSY or tried > retries:
        return None
    wanted_s = 2.0 ** (tried - 1) if error.retry_after_s is None else error.retry_after_s
    if wanted_s > _PATIENCE_S:
        return None
    # Those who were turned away together must not come back together.
    return wanted_s + random.uniform(0, 0.25 * max(1.0, wanted_s))


def source_of(image: ImageInput, index: int) -> str:
    """What a caller knows a picture by."""
    return str(image) if isinstance(image, (str, Path)) else f"picture-{index}"


def is_url(image: ImageInput) -> bool:
    """True for text that is an address, which the service itself is to fetch."""
    return isinstance(image, str) and image.lower().startswith(("http://", "https://"))


def _body(names: Sequence[str], images: Sequence[ImageInput]) -> dict[str, Any]:
    if any(map(is_url, images)):
        return {"json": {"images": [_entry(*pair) for pair in zip(names, images, strict=True)]}}
    files = [_file_bytes(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]) for image in images]
    if len(files) == 1:
        headers = {"Content-Type": "application/octet-stream"}
        return {"content": files[0], "headers": headers, "params": {"name": names[0]}}
    kind = "application/octet-stream"
    return {"files": [("images", (name, file, kind)) for name, file in zip(names, files, strict=True)]}


def _entry(name: str, image: ImageInput) -> dict[str, str]:
    if is_url(image):
        return {"name": name, "url": str(image)}
    file = _file_bytes(image, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return {"name": name, "data": base64.b64encode(file).decode("ascii")}


def _file_bytes(image: ImageInput, suffix: str, parameters: Sequence[int]) -> bytes:
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, Path)):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ImageError(f"{image}: {error.strerror}; check the path") from error
    # Pictures that are pixels already go without loss, so that the service sees what a Detector would see.
    ok, file = cv2.imencode(suffix, cv2.cvtColor(as_rgb(image), cv2.COLOR_RGB2BGR), parameters)
    if not ok:
        raise ImageError(f"a picture of {_size(image)} cannot be written as {suffix}; make it smaller")
    return file.tobytes()


def _size(image: ImageInput) -> str:
    return "x".join(map(str, image.size if isinstance(image, Image.Image) else getattr(image, "shape", ())))


def _different(sources: Sequence[str]) -> list[str]:
    """Names to send, different for each: a service that gives no index back is understood by them.

    The file's name alone, since its folder is nobody's business. Characters that a form or an address would
    have to escape are left out, so that the same name comes back.
    """
    names = [_UNSAFE.sub("_", _file_name(source))[-_NAME_LENGTH:] or "picture" for source in sources]
    while len(counts := Counter(names)) < len(names):
        names = [f"{index}-{name}" if counts[name] > 1 else name for index, name in enumerate(names)]
    return names


def _file_name(source: str) -> str:
    if is_url(source):
        return unquote(re.split("[?#]", source)[0].rpartition("/")[2])
    return Path(source).name


def _retry_after_s(text: str | None) -> float | None:
    """Seconds of the header Retry-After: a number, or a date (RFC 9110, section 10.2.3)."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _checked(token: str) -> str:
    # The token itself is not shown: messages end up in logs.
    if not token or not token.isascii() or any(not "!" <= letter <= "~" for letter in token):
        raise OptionError(
            "token is empty or has characters other than visible ASCII; pass the service's token"
        )
    return token

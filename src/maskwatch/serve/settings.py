"""The settings of `maskwatch serve`, validated."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from maskwatch.detector import Threshold
from maskwatch.errors import OptionError
from maskwatch.net.address_guard import leads_to_loopback
from maskwatch.runtimes.choice import RuntimeSettings
from maskwatch.text import read_lines, reading

if TYPE_CHECKING:
    from maskwatch.live.config import WatchConfig

MIN_TOKEN = 16  # characters; a shorter one can be guessed


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of what clients may use at once.

    Attributes:
        max_bytes: of a request's body and of a stream's message.
        max_pixels: of a picture, read from its header before it is decoded.
        max_images: pictures in a request.
        waiting: pictures of other requests that may wait when a request comes, beside one for each inference
            worker; in each worker process.
        queue: pictures in work or waiting, in each worker.
        timeout_s: for a request, and as long for its body.
        max_uploads: uploads in progress, in each worker.
        upload_bytes: of all bodies in memory, in each worker; None for eight of `max_bytes`.
        max_streams: open WebSockets and watch streams, in each worker.
        rate: requests a second of one client address, in each worker; None for any number.
    """

    max_bytes: int = 32 << 20
    max_pixels: int = 50_000_000
    max_images: int = 16
    waiting: int = 1
    queue: int = 32
    timeout_s: float = 30.0
    max_uploads: int = 64
    upload_bytes: int | None = None
    max_streams: int = 16
    rate: float | None = None

    def __post_init__(self) -> None:
        _check_counts(self, "max_bytes", "max_pixels", "max_images", "queue", "max_uploads", "max_streams")
        if self.waiting < 0:
            raise OptionError(f"--waiting {self.waiting}: pass 0 or more")
        if self.max_images > self.queue:
            raise OptionError(
                f"--max-images {self.max_images} is more than --queue {self.queue}, so that a full request "
                "would never be accepted; raise --queue"
            )
        if self.upload_bytes is not None and self.upload_bytes < self.max_bytes:
            raise OptionError(
                f"--upload-bytes {self.upload_bytes} is less than --max-bytes {self.max_bytes}, so that the "
                "largest body would never be accepted; raise --upload-bytes"
            )
        for name, value in (("--timeout", self.timeout_s), ("--rate", self.rate)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(f"{name} {value}: pass a number above 0")

    @property
    def most_upload_bytes(self) -> int:
        """Of all bodies in memory."""
        return 8 * self.max_bytes if self.upload_bytes is None else self.upload_bytes


@dataclass(frozen=True)
class ServeSettings:
    """Settings of a service.

    Attributes:
        models: names of embedded models or paths of files, the default one first.
        threshold: scores above it count, unless a request says otherwise; as `Detector` takes it.
        host, port: where it listens; port 0 takes a free one.
        workers: processes.
        threads: of the network in one call; None shares the cores among all inference workers.
        runtime: what computes; `threads` and the share of the cores replace its threads.
        inference_workers: calls of the network at the same time, in each worker process.
        batch: waiting pictures in one call, at most.
        token: that clients must send; without it and `token_file` they need none.
        token_file: of tokens, one in each line, that is read again when it changes.
        cors: origins whose pages may use the service.
        allow_urls: whether a request may name addresses of pictures.
        url_networks: private networks that such addresses may lie in, such as 192.168.1.0/24.
        limits: on what clients may use at once.
        drain_s: seconds for which a stopping service that is no longer ready still accepts requests.
        watch: cameras to watch in the same process; None for none.
        keep_faces: do not blur faces in what is watched.
        keep_hard: folder for pictures with a wrong answer, which users send (`POST /v1/feedback`); None
            takes none.
        retain_days: delete these after so many days; None for never.

    Raises:
        OptionError: a value that cannot be used, or an open address without a token.
    """

    models: tuple[str, ...]
    threshold: Threshold | None = None
    host: str = "127.0.0.1"
    port: int = 8765
    workers: int = 1
    threads: int | None = None
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    inference_workers: int = 2
    batch: int = 1
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    cors: tuple[str, ...] = ()
    allow_urls: bool = False
    url_networks: tuple[str, ...] = ()
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    drain_s: float = 0.0
    watch: WatchConfig | None = None
    keep_faces: bool = False
    keep_hard: Path | None = None
    retain_days: float | None = None

    def __post_init__(self) -> None:
        _check_numbers(self)
        if self.token_file is not None:
            read_tokens(self.token_file)
        elif self.token is not None:
            _check_token(self.token)
        elif not leads_to_loopback(self.host):
            raise OptionError(
                f"--host {self.host} can be reached by others, so the service needs a token; put one of "
                f"{MIN_TOKEN} characters or more into MASKWATCH_TOKEN or a --token-file"
            )
        for origin in self.cors:
            _check_origin(origin)
        for network in self.url_networks:
            _check_network(network)
        if self.url_networks and not self.allow_urls:
            raise OptionError("--url-network widens what --allow-urls may fetch; add --allow-urls")
        if self.keep_faces and self.watch is None:
            raise OptionError("--keep-faces changes what --watch shows; add --watch SOURCE")
        if self.watch is not None and self.workers > 1:
            raise OptionError(f"--watch needs one process, not --workers {self.workers}; leave --workers out")


def _check_counts(settings: ServiceLimits | ServeSettings, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise OptionError(f"--{name.replace('_', '-')} {value}: pass 1 or more")


def _check_numbers(settings: ServeSettings) -> None:
    if not settings.models:
        raise OptionError("no model to serve; name one with --model")
    if not 0 <= settings.port <= 65535:
        raise OptionError(f"--port {settings.port}: pass a number from 0 to 65535")
    _check_counts(settings, "workers", "inference_workers", "batch", "threads")
    if not (math.isfinite(settings.drain_s) and settings.drain_s >= 0):
        raise OptionError(f"--drain {settings.drain_s}: pass a number of seconds, 0 or more")


def read_tokens(path: Path) -> tuple[str, ...]:
    """The tokens in a file, one in each line.

    Raises:
        OptionError: it cannot be read, holds none, or one that cannot be used.
    """
    with reading(f"--token-file {path}", OptionError, "check the path"):
        tokens = tuple(line.strip() for line in read_lines(path) if line.strip())
    if not tokens:
        raise OptionError(f"--token-file {path}: it is empty; write a token into a line of it")
    for number, token in enumerate(tokens, 1):
        try:
            _check_token(token)
        except OptionError as error:
            raise OptionError(f"--token-file {path}, token {number}: {error}") from None
    return tokens


def _check_token(token: str) -> None:
    # The value is not shown: it would end up in logs.
    if len(token) < MIN_TOKEN:
        raise OptionError(f"the token has {len(token)} characters; make it {MIN_TOKEN} or more")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise OptionError("the token has blanks or letters beyond ASCII; use letters, digits and - _ . ~")


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
        raise OptionError(f"--cors {origin!r} is not an origin; write it like https://example.org:8080")


def _check_network(network: str) -> None:
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        raise OptionError(f"--url-network {network!r}: {error}; write it like 192.168.1.0/24") from None

"""Thousands of bodies that are wrong in some way: each gets an answer of its kind, and memory stays small."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from PIL import Image

from maskwatch.errors import ImageError
from maskwatch.media.images import read_image
from maskwatch.serve.app import create_app
from serving import settings

UPLOADS = 5000
MAX_PIXELS = 1_000_000
TOGETHER = 8
MOST_MORE_MIB = 200  # of memory; a single bomb of these, decoded, takes some 900

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")


def pictures(random_: random.Random) -> dict[str, bytes]:
    noise = np.frombuffer(random_.randbytes(48 * 40 * 3), np.uint8).reshape(48, 40, 3)
    smooth = Image.fromarray(noise).resize((96, 80))
    files = {}
    for kind in KINDS:
        file = io.BytesIO()
        smooth.save(file, kind)
        files[kind] = file.getvalue()
    return files


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


class Maker:
    """Makes wrong files; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.files = pictures(self.random)
        self.bombs = [
            png(30_000, 30_000, chunk(b"IDAT", zeros(32 << 20))),
            png(
                10, 10, chunk(b"zTXt", b"a\0\0" + zeros(64 << 20)), chunk(b"IDAT", zlib.compress(bytes(310)))
            ),
            png(10, 10, chunk(b"IDAT", zeros(64 << 20))),
            png(
                10, 10, chunk(b"iCCP", b"a\0\0" + zeros(64 << 20)), chunk(b"IDAT", zlib.compress(bytes(310)))
            ),
        ]
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.writestr("a.jpg", self.files["JPEG"])
        self.archive = archive.getvalue()
        self.makers: list[Callable[[], bytes]] = [
            self.cut, self.flipped, self.wrong_head, self.huge, self.bomb, self.polyglot, self.noise,
            self.spliced,
        ]  # fmt: skip

    def file(self) -> bytes:
        return self.files[self.random.choice(KINDS)]

    def cut(self) -> bytes:
        data = self.file()
        return data[: self.random.randrange(len(data))]

    def flipped(self) -> bytes:
        data = bytearray(self.file())
        for _ in range(self.random.choice((1, 4, 40))):
            reach = self.random.choice((64, len(data)))  # headers are where it is delicate
            data[self.random.randrange(min(reach, len(data)))] = self.random.randrange(256)
        return bytes(data)

    def wrong_head(self) -> bytes:
        head, body = self.file(), self.file()
        at = self.random.choice((4, 8, 12, 30))
        return head[:at] + body[at:]

    def huge(self) -> bytes:
        side = self.random.choice((0, 1, 20_000, 65_535, 2**31 - 1, 2**32 - 1))
        other = self.random.choice((0, 1, 5, 65_535, 2**31 - 1))
        kind = self.random.choice(("PNG", "BMP", "GIF", "PPM", "JPEG"))
        data = bytearray(self.files[kind])
        if kind == "PNG":
            return png(side, other, chunk(b"IDAT", zlib.compress(bytes(1000))))
        if kind == "BMP":
            data[18:26] = struct.pack("<II", side, other)
        elif kind == "GIF":
            data[6:10] = struct.pack("<HH", side & 0xFFFF, other & 0xFFFF)
        elif kind == "PPM":
            return f"P6 {side} {other} 255\n".encode() + bytes(100)
        else:
            at = data.index(b"\xff\xc0") + 5
            data[at : at + 4] = struct.pack(">HH", other & 0xFFFF, side & 0xFFFF)
        return bytes(data)

    def bomb(self) -> bytes:
        return self.random.choice(self.bombs)

    def polyglot(self) -> bytes:
        tail = (self.archive, b"%PDF-1.7\n", b"<script>alert(1)</script>", b"#!/bin/sh\nexit 1\n")
        other = self.random.choice(tail)
        return self.random.choice((self.file() + other, other + self.file()))

    def noise(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 1, 2, 10, 100, 3000)))

    def spliced(self) -> bytes:
        data = self.file()
        at = self.random.randrange(len(data))
        length = self.random.choice((1, 10, 300))
        return data[:at] + self.random.choice((b"", bytes(length), b"\xff" * length)) + data[at + length :]

    def requests(self) -> Iterator[tuple[str, str, bytes, bytes]]:
        """(kind, Content-Type, body, the file in it)."""
        while True:
            make = self.random.choice(self.makers)
            data = make()
            wrap = self.random.choice(("raw", "raw", "form", "json"))
            yield make.__name__, *getattr(self, wrap)(data), data

    def raw(self, data: bytes) -> tuple[str, bytes]:
        return self.random.choice(("image/jpeg", "image/png", "application/octet-stream", "")), data

    def form(self, data: bytes) -> tuple[str, bytes]:
        name = self.random.choice(("images", "images", "photo", 'a"b', "\u202e"))
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="a\x00.jpg"\r\n\r\n'
        body = head.encode() + data + self.random.choice((b"\r\n--edge--\r\n", b"\r\n--edge", b""))
        if self.random.random() < 0.2:
            at = self.random.randrange(len(body))
            body = body[:at] + self.random.randbytes(3) + body[at + 3 :]
        boundary = self.random.choice(
            ("; boundary=edge", "; boundary=edge", "; boundary=other", "", "; boundary=")
        )
        return f"multipart/form-data{boundary}", body

    def json(self, data: bytes) -> tuple[str, bytes]:
        text: Any = base64.b64encode(data).decode()
        text = self.random.choice((text, text, text[:-1], 5, None, [text], "\ud800"))
        body = json.dumps({self.random.choice(("images", "images", "x")): [{"data": text}]}).encode()
        return "application/json", body if self.random.random() < 0.8 else body[
            : self.random.randrange(len(body))
        ]


async def ask(app: Any, kind: str, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """One request without a network; far faster than a client."""
    headers = [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())]
    headers += [(b"content-type", kind.encode())] if kind else []
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/detect",
        "raw_path": b"/v1/detect", "query_string": b"annotate=1&blur=1", "headers": headers,
        "scheme": "http", "root_path": "", "server": ("localhost", 80), "client": ("127.0.0.1", 5),
    }  # fmt: skip
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:])


def is_picture(data: bytes) -> bool:
    try:
        read_image(data, max_pixels=MAX_PIXELS)
    except ImageError:
        return False
    return True


def peak_mib() -> float:
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def begin_peak() -> bool:
    """Makes the kernel count the peak anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


async def run(app: Any, seed: int, count: int) -> Counter[tuple[str, int]]:
    outcomes: Counter[tuple[str, int]] = Counter()
    requests = Maker(seed).requests()
    gate = asyncio.Semaphore(TOGETHER)

    async def one(name: str, kind: str, body: bytes, data: bytes) -> None:
        async with gate:
            status, headers, answer = await ask(app, kind, body)
        outcomes[name, status] += 1
        if status == 200:
            assert is_picture(data), (name, kind, body[:100])
        else:
            assert status in (400, 413, 415, 422), (name, status, answer[:300])
            assert headers[b"content-type"] == b"application/problem+json"
            assert json.loads(answer)["status"] == status

    async with app.router.lifespan_context(app):
        for _ in range(count // 100):
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(one(*next(requests)))
        assert app.state.service.in_flight == 0
    return outcomes


def fuzz(model: Path, seed: int, count: int) -> None:
    # Nobody is turned away for being early: what is wrong shall be looked at.
    limits = {"max_pixels": MAX_PIXELS, "max_bytes": 1 << 20, "waiting": TOGETHER}
    app = create_app(settings(model, limits))
    measured = begin_peak()
    before = peak_mib()
    outcomes = asyncio.run(run(app, seed, count))
    if measured:
        assert peak_mib() - before < MOST_MORE_MIB
    # Each kind of wrong was there, and some were pictures all the same.
    refused = {name for name, status in outcomes if status != 200}
    assert refused == {make.__name__ for make in Maker(0).makers}
    assert {("polyglot", 200), ("flipped", 200)} <= outcomes.keys()


def test_wrong_uploads(tiny_model: Path) -> None:
    fuzz(tiny_model, 1, 300)


@pytest.mark.slow
def test_five_thousand_wrong_uploads(tiny_model: Path) -> None:
    fuzz(tiny_model, 2, UPLOADS)

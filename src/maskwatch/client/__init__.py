"""Asks a Maskwatch service from Python. Extra `[client]`; docs/service.md has examples.

>>> from maskwatch.client import Client
>>> with Client("http://127.0.0.1:8765") as client:
...     answer = client.detect("photo.jpg")

`Client` waits, `AsyncClient` is awaited; both have the same methods and answers.
"""

from __future__ import annotations

from maskwatch.errors import MissingExtraError, ServiceError

try:
    from maskwatch.client.answers import Answer, Face, Failure, FrameAnswer, Model, Picture
    from maskwatch.client.async_client import AsyncClient, AsyncStream
    from maskwatch.client.sync import Client, Stream
except ModuleNotFoundError as error:
    if error.name not in ("httpx2", "websockets"):
        raise
    raise MissingExtraError("maskwatch.client", "client") from error

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "Face",
    "Failure",
    "FrameAnswer",
    "Model",
    "Picture",
    "ServiceError",
    "Stream",
]

"""A picture of a request: the bytes of its file, or its address instead."""

from __future__ import annotations

from dataclasses import dataclass

from maskwatch.serve.core.problem import Problem
from maskwatch.serve.settings import Limits

NAME_LENGTH = 200


@dataclass(frozen=True)
class PictureFile:
    """A picture as it came; whether it is one is not known yet."""

    source: str
    data: bytes = b""
    url: str | None = None


def clean_name(name: str | None, otherwise: str) -> str:
    """What records call a picture: not endless, and such that UTF-8 can carry it."""
    return (name or otherwise)[:NAME_LENGTH].encode("utf-8", "replace").decode()


def too_many(count: int, limits: Limits) -> Problem:
    """413: more pictures than a request may have."""
    return Problem(
        413, f"the request has {count} pictures, and {limits.max_images} may be; send several requests"
    )

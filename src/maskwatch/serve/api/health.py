"""Whether the service lives, takes requests, and what it has done; and tickets."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from maskwatch.serve.api.schemas import State, Ticket, problems
from maskwatch.serve.core.auth import TICKET_S
from maskwatch.serve.core.metrics import CONTENT_TYPE
from maskwatch.serve.core.problem import busy
from maskwatch.serve.core.service import service_of

router = APIRouter(tags=["service"])


@router.get("/healthz", response_model=State, summary="The process lives", responses=problems(403))
async def healthz() -> dict[str, str]:
    """Says nothing else: a service that is stopping lives as well."""
    return {"status": "ok"}


@router.get("/readyz", response_model=State, summary="It takes requests", responses=problems(403, 503))
async def readyz(request: Request) -> dict[str, str]:
    """503 while models are being loaded and while the service is stopping."""
    if not service_of(request).ready:
        raise busy("the service is starting or stopping; ask again", 1)
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    summary="Counters for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 403, 429)},
)
async def metrics(request: Request) -> Response:
    """Requests, times, pictures, faces, of all workers together; sources and sinks of what is watched."""
    text = await asyncio.to_thread(service_of(request).metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


@router.post(
    "/v1/ticket",
    response_model=Ticket,
    summary="A ticket for addresses that a browser opens without headers",
    responses=problems(401, 403, 429, 503),
)
async def ticket(request: Request) -> dict[str, Any]:
    """Add it as `?ticket=…` to the address of a stream, within a minute."""
    return {"ticket": service_of(request).tokens.ticket(), "expires_s": TICKET_S}

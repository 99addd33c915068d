"""The labelling server: settings → an app, served by uvicorn until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI

from maskwatch._version import __version__
from maskwatch.label.api import router
from maskwatch.label.images import ImageCache
from maskwatch.label.middleware import LabelMiddleware
from maskwatch.label.session import LabelSession
from maskwatch.label.settings import LabelSettings
from maskwatch.serve.api.page import mount_page
from maskwatch.serve.core.auth import Authenticator
from maskwatch.serve.core.problem import add_handlers
from maskwatch.serve.server import address_of, drain_on_signal, listen, silence_libraries, uvicorn_config

PAGE = "label.html"
_POLL_S = 0.05
_LIMIT_S = 30.0


class LabelServer:
    """The app of a labelling server; it works within its lifespan.

    Args:
        settings: of the server.
        around: entered within the lifespan, in the thread of the event loop.

    Raises:
        MaskwatchError: folder, model or file cannot be used.
    """

    def __init__(
        self,
        settings: LabelSettings,
        around: Callable[[LabelServer], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.session, self._around = LabelSession(settings), around
        app = FastAPI(
            title="Maskwatch label", version=__version__, lifespan=self._lifespan, docs_url=None,
            redoc_url=None, redirect_slashes=False,
        )  # fmt: skip
        app.state.session, app.state.thumbnails = self.session, ImageCache()
        add_handlers(app)
        app.include_router(router)
        mount_page(app, index=PAGE)
        auth = Authenticator(settings.token)
        self.app = LabelMiddleware(app, auth, settings.host, settings.limits.max_bytes)

    async def drain(self) -> None:
        """Refuses further requests, ends streams, and waits for what is being saved."""
        self.app.stopping = True
        self.session.changes.close()
        deadline_s = asyncio.get_running_loop().time() + _LIMIT_S
        while self.app.in_flight and asyncio.get_running_loop().time() < deadline_s:
            await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        del app
        self.session.changes.attach(asyncio.get_running_loop())
        self.session.start()
        try:
            with self._around(self):
                yield
        finally:
            await asyncio.to_thread(self.session.close)


def run_label(settings: LabelSettings, announce: Callable[[str], None]) -> None:
    """Serves a folder until Ctrl-C or SIGTERM.

    Args:
        settings: of the server.
        announce: is called with the address to open, when the server takes requests.

    Raises:
        MaskwatchError: folder, model, file or address cannot be used.
    """
    silence_libraries()
    with listen(settings.host, settings.port) as listener:
        address = f"{address_of(listener, settings.host)}/?token={quote(settings.token, safe='')}"

        @contextlib.contextmanager
        def announced(server: LabelServer) -> Iterator[None]:
            with drain_on_signal(server):
                announce(address)
                yield

        config = uvicorn_config(settings, LabelServer(settings, announced).app)
        with contextlib.suppress(KeyboardInterrupt):  # with which uvicorn returns after a signal
            uvicorn.Server(config).run([listener])

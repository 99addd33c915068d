"""A message for each event by one of the services of Apprise: ntfy, Telegram, Matrix, e-mail, …"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from apprise import Apprise, AppriseConfig, LogCapture

from maskwatch.errors import EventError, OptionError
from maskwatch.live.events import Event
from maskwatch.live.sinks import RetryableError, Sink
from maskwatch.live.sinks.event_text import event_line

RETRY_S = 10.0
GIVE_UP_S = 600.0
"""A later message is of no use."""


class AppriseSink(Sink):
    """Sends each event as one line of text.

    Args:
        address: of a service (https://appriseit.com/services/), or a file with one or more of them, which
            keeps their secrets out of the list of processes.

    Raises:
        OptionError: Apprise does not know the address.
    """

    name = "apprise"
    kinds = frozenset(["alert"])

    def __init__(self, address: str) -> None:
        self._services = Apprise()
        scheme, separator, _ = address.partition("://")
        is_file = not separator and Path(address).is_file()
        # Its log would show the address, every part of which may be a secret.
        with LogCapture():  # type: ignore[no-untyped-call]
            self._services.add(AppriseConfig(address) if is_file else address)
        if not len(self._services):
            raise OptionError(
                f"--apprise {scheme + '://…' if separator else address!r} holds no address that Apprise "
                "knows; write one of https://appriseit.com/services/, or name a file that holds some"
            )
        self._failing: tuple[str, float] | None = None
        """Id of the event that could not be sent, and since when."""

    def send(self, event: Event) -> None:
        with LogCapture(level=logging.WARNING, fmt="%(message)s") as log:  # type: ignore[no-untyped-call]
            if self._services.notify(title="Maskwatch", body=event_line(event)):
                self._failing = None
                return
            reason = " ".join(log.getvalue().split())
        text = f"Apprise sends nothing ({reason or 'without a reason'}); check address and network"
        if self._failing is None or self._failing[0] != event.id:
            self._failing = event.id, time.monotonic()
        if time.monotonic() - self._failing[1] >= GIVE_UP_S:
            raise EventError(text)
        raise RetryableError(text, RETRY_S)

"""A program that delivers events until it is killed, and says which are stored.

Arguments: folder, address of the webhook, number of the first event and of the one after the last.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from drawn_events import event
from maskwatch.live.sinks.delivery import Delivery
from maskwatch.live.sinks.factory import open_sinks
from maskwatch.live.sinks.jsonl import JsonlSink
from maskwatch.live.sinks.settings import SinkSettings


def main() -> None:
    folder, url, first, end = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    settings = SinkSettings(db=folder / "events.sqlite", webhook=url, outboxes=folder)
    sinks = [JsonlSink(folder / "events.jsonl", max_bytes=200_000), *open_sinks(settings)]
    numbers = {event(number).id: number for number in range(first, end)}
    # One call of the system for each line: what is said is said, whenever we are killed.
    delivery = Delivery(
        sinks, on_stored=lambda sink, id: os.write(1, f"{sink} {numbers[id]}\n".encode()) and None
    )
    for number in range(first, end):
        delivery.put(event(number))
    delivery.close(120)


if __name__ == "__main__":
    main()

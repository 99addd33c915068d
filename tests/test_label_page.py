"""The labelling page in a real browser, on the real command with a folder of its own."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the labelling server needs the extra 'serve'")

from browser import Tab, chromium, clip_of, installed_chromium, tab_of
from labelling import LabelServer, label_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).parents[1] / "examples"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
PLAIN_WH = (400, 300)


class LabelTab(Tab):
    """A window of the labelling page."""

    def open(self, query: str = "") -> LabelTab:
        self.page.goto(query)
        self.page.wait_for_function("() => document.querySelector('#name').textContent !== ''")
        return self

    def show(self, image_id: str) -> None:
        self.page.click(f"#pictures [data-image='{image_id}']")
        self.page.wait_for_function(
            "id => document.querySelector('#name').textContent === id", arg=image_id
        )

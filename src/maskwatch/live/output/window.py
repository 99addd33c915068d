"""A window for each source, if this OpenCV can open one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence

import cv2

from maskwatch.errors import OptionError
from maskwatch.live.output.drawing import draw_people
from maskwatch.live.tracking.results import FrameResult, Observer
from maskwatch.live.tracking.zones import Zones
from maskwatch.media.images import UInt8Array

_INSTEAD = "see it in a browser with maskwatch serve --watch SOURCE, or store it with --save-video"
_QUIT = frozenset([ord("q"), 27])


class Window(Observer):
    """One window for each source; `q`, Escape or closing it ends the watching. A context manager.

    Args:
        class_names: in the order of their ids.
        zones: by source, to draw them.
        stop: ends the watching.

    Raises:
        OptionError: no window can be opened here.
    """

    def __init__(
        self, class_names: Sequence[str], zones: Mapping[str, Zones], stop: Callable[[], None]
    ) -> None:
        check_display()
        # Qt in OpenCV's wheels warns about each missing font.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        self._names, self._zones, self._stop = class_names, zones, stop
        self._open: set[str] = set()

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        cv2.destroyAllWindows()

    def on_frame(self, result: FrameResult) -> None:
        source = result.frame.source
        title = f"maskwatch: {source}"
        drawn = draw_people(result.frame.image_rgb, result.scene.people, self._names, self._zones.get(source))
        _note_age(drawn, result.age_s)
        if source not in self._open:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(title, drawn.shape[1], drawn.shape[0])
            self._open.add(source)
        elif cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            self._stop()  # closed with the mouse
            return
        cv2.imshow(title, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in _QUIT:
            self._stop()


def check_display() -> None:
    """Makes sure that a window can be opened.

    Raises:
        OptionError: this OpenCV has no windows, or there is no screen.
    """
    if "GUI:                           NONE" in cv2.getBuildInformation():
        raise OptionError(
            "--show: this OpenCV is the headless one and opens no windows; run: "
            f"pip install --force-reinstall --no-deps opencv-python, or {_INSTEAD}"
        )
    # Without a screen Qt does not raise, it ends the program.
    if sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        raise OptionError(f"--show: there is no screen (DISPLAY is not set); {_INSTEAD}")


def _note_age(drawn_rgb: UInt8Array, age_s: float) -> None:
    text = f"{1000 * age_s:.0f} ms old"
    place = (8, drawn_rgb.shape[0] - 10)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(drawn_rgb, text, place, font, 0.5, color, width, cv2.LINE_AA)

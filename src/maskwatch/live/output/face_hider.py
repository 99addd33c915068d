"""What has to be hidden in the newest frame of each source, for whoever shows or stores it at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.live.capture.frame import LiveFrame


@dataclass(frozen=True, eq=False)
class _Sight:
    cover: PrivacyMask[None]
    index: int  # of the frame that was looked at last
    size_wh: tuple[int, int]
    hidden_xyxy: Boxes


class Hiding:
    """Remembers where the faces of each source are; show it every frame. It keeps no frame.

    Nothing waits for the frames that follow, as in a recording: a face that was missed in this very frame is
    covered where it was found in those before. When the size of the frames changes, those before say nothing
    any more.
    """

    def __init__(self) -> None:
        self._sights: dict[str, _Sight] = {}

    def look(
        self,
        frame: LiveFrame,
        boxes_xyxy: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        *,
        sure: npt.ArrayLike | None = None,
    ) -> Boxes:
        """Boxes (M, 4) to hide in a frame; asked for the same frame again, it gives the same.

        Args:
            frame: the newest of its source.
            boxes_xyxy: (N, 4), all faces in it that were found, the unsure ones too.
            track_ids, sure: (N,), as in `PrivacyMask.add`.
        """
        sight = self._sights.get(frame.source)
        if sight is not None and sight.index == frame.index:
            return sight.hidden_xyxy
        height, width = frame.image_rgb.shape[:2]
        cover: PrivacyMask[None] = PrivacyMask(max_waiting=0)
        if sight is not None and sight.size_wh == (width, height):
            cover = sight.cover
        ((_, hidden_xyxy),) = cover.add(None, frame.time_s, boxes_xyxy, track_ids, confident=sure)
        self._sights[frame.source] = _Sight(cover, frame.index, (width, height), hidden_xyxy)
        return hidden_xyxy

"""Where to hide faces in a frame that is shown or stored immediately."""

from __future__ import annotations

from dataclasses import dataclass

from maskwatch.drawing.privacy_mask import Boxes, PrivacyMask
from maskwatch.live.tracking.results import FrameResult


@dataclass(frozen=True, eq=False)
class _SourceState:
    mask: PrivacyMask[None]
    index: int  # of the newest frame
    shape: tuple[int, ...]
    hidden_xyxy: Boxes


class FaceHider:
    """Remembers where the faces of each source are; pass it every frame. It keeps no frame.

    Unlike a recording, it does not wait for the next frames: a face that is missed in a frame is hidden where
    it was found before. When the size of the frames changes, it forgets the faces.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _SourceState] = {}

    def boxes_to_hide(self, result: FrameResult) -> Boxes:
        """Boxes (M, 4) to hide in the newest frame of its source; the same for the same frame."""
        frame = result.frame
        state = self._sources.get(frame.source)
        if state is not None and state.index == frame.index:
            return state.hidden_xyxy
        shape, faces, tracks = frame.image_rgb.shape, result.faces, result.scene.tracks
        mask = state.mask if state is not None and state.shape == shape else PrivacyMask[None](max_waiting=0)
        ready = mask.add(None, frame.clock_s, faces.boxes_xyxy, tracks, confident=faces.confident)
        ((_, hidden_xyxy),) = ready  # the frame itself, since none waits
        self._sources[frame.source] = _SourceState(mask, frame.index, shape, hidden_xyxy)
        return hidden_xyxy

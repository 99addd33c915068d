"""Pictures, videos and folders in, `supervision.Detections` out.

supervision is imported where its type is made: the command line needs only `BoxDetections`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import numbers
import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np

from maskwatch.boxes import BoxDetections
from maskwatch.errors import ImageError, LabelError, OptionError, SourceError
from maskwatch.labels import class_values
from maskwatch.media.formats import FileInput
from maskwatch.media.images import (
    FloatArray,
    ImageInput,
    Placement,
    ReducedImage,
    UInt8Array,
    as_rgb,
    fit,
    read_reduced,
)
from maskwatch.models import DEFAULT_MODEL, ModelMetadata, load_model_file
from maskwatch.runtimes.base import Backend, RawDetections
from maskwatch.runtimes.choice import AUTO, RuntimeSettings, open_runtime
from maskwatch.system import in_order, usable_cores

if TYPE_CHECKING:
    import supervision as sv

    from maskwatch.media.videos import Frame, Video

Threshold: TypeAlias = "float | Mapping[str, float]"
_Image = TypeVar("_Image", bound=ImageInput)
_Detections = TypeVar("_Detections", "sv.Detections", BoxDetections)

BATCH_SIZE = 8
"""Pictures that go through the network at once; longer lists are split, to save memory."""

READ_SIDE, READ_SCALE = 1920, 3
"""A JPEG is decoded at a half, a quarter or an eighth of its size while its longer side keeps so many pixels,
and so many times those of the network. `benchmarks/reduced_pictures.py` measures what that changes."""


class Detector:
    """Finds the faces in pictures, and the class of each.

    One detector may be called from several threads at once, and pickled for other processes.

    Args:
        model: name of an embedded model, or path of a model file.
        threshold: detections with higher scores are returned. One number for all classes, or class name →
            number for some of them; the others, and None, use those of the model file.
        iou_threshold: of two boxes that overlap more than this (0..1), NMS keeps the better one; None uses
            the file's.
        class_agnostic: True applies NMS across all classes (one face, one box), False within each class;
            None uses the file's.
        runtime, device, precision: what computes, see `runtimes.choice.BACKENDS`; "auto" takes the fastest
            that is installed and known to give the same detections. The address of a model server as
            `runtime` ("http://host:8000") has that compute, with its copy of the model.
        threads: of one call; None for one per core.

    Raises:
        ModelFileError: there is no such model, or the file is not a Maskwatch model.
        OptionError, LabelError: a value is out of range, or this machine lacks the runtime, device or
            precision; the model has no such class.
        ModelServerError: the model server cannot be reached, or has another model.

    Examples:
        >>> detections = Detector()("photo.jpg")
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        threshold: Threshold | None = None,
        iou_threshold: float | None = None,
        class_agnostic: bool | None = None,
        runtime: str = AUTO,
        device: str = AUTO,
        precision: str = AUTO,
        threads: int | None = None,
    ) -> None:
        file = load_model_file(model)
        self._path, self._metadata = file.path, file.metadata
        self._thresholds = self._resolve(threshold, file.metadata.thresholds)
        self._iou_threshold = None if iou_threshold is None else _unit("iou_threshold", iou_threshold)
        self._class_agnostic = class_agnostic
        self._class_names = np.array(file.metadata.classes)
        self._threads = threads
        self._settings = RuntimeSettings(runtime, device, precision, threads)
        self._runtime = open_runtime(file.path, self._settings)

    def __getstate__(self) -> dict[str, Any]:
        """Pickled, a detector carries its model file, and opens it again where it is unpickled."""
        return {**self.__dict__, "_runtime": self._path.read_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        model: bytes = state["_runtime"]
        if not self._path.is_file() or self._path.read_bytes() != model:
            folder = tempfile.mkdtemp(prefix="maskwatch-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._path = Path(folder, self._path.name)
            self._path.write_bytes(model)
        self._runtime = open_runtime(self._path, self._settings)

    def __copy__(self) -> Detector:
        """Shares the loaded model."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def variant(self, *, threshold: Threshold | None = None, class_agnostic: bool | None = None) -> Detector:
        """The same loaded model with other options, without further memory.

        Args:
            threshold: as in the constructor, but None and classes without a number keep this detector's.
            class_agnostic: as in the constructor.

        Raises:
            OptionError, LabelError: as the constructor.
        """
        other = copy.copy(self)
        other._thresholds = self._resolve(threshold, self._thresholds)
        other._class_agnostic = class_agnostic
        return other

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._metadata.name

    @property
    def path(self) -> Path:
        """The model file."""
        return self._path

    @property
    def metadata(self) -> ModelMetadata:
        """The metadata of the model file."""
        return self._metadata

    @property
    def backend(self) -> Backend:
        """Runtime, device and precision in use."""
        return self._runtime.backend

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return self._metadata.classes

    @property
    def input_size(self) -> tuple[int, int]:
        """Size (H, W) in pixels to which every picture is resized."""
        return self._metadata.input_size

    @property
    def workers(self) -> int:
        """Calls at once that keep all cores busy."""
        return 1 if self._threads is None else max(1, usable_cores() // self._threads)

    @property
    def thresholds(self) -> dict[str, float]:
        """Class name → score above which detections are returned."""
        return dict(zip(self.class_names, self._thresholds, strict=True))

    @overload
    def __call__(self, images: ImageInput, *, threshold: Threshold | None = None) -> sv.Detections: ...

    @overload
    def __call__(
        self, images: list[_Image] | tuple[_Image, ...], *, threshold: Threshold | None = None
    ) -> list[sv.Detections]: ...

    def __call__(
        self, images: ImageInput | list[Any] | tuple[Any, ...], *, threshold: Threshold | None = None
    ) -> sv.Detections | list[sv.Detections]:
        """Finds the faces in one picture, or in each of a list or tuple of pictures.

        Args:
            images: a path, the bytes of a picture file, a PIL image, an array uint8 (H, W, 3) RGB (other
                arrays: see `images.as_rgb`), or a list of these.
            threshold: as in the constructor, for this call only.

        Returns:
            Detections, best first: `xyxy` in pixels of the picture with its EXIF orientation applied,
            `confidence`, `class_id` and `data["class_name"]`; of length 0 when there is nothing. For a list,
            a list in the same order.

        Raises:
            ImageError: a picture cannot be read.
        """
        thresholds = self._resolve(threshold, self._thresholds)
        if not isinstance(images, (list, tuple)):
            return next(self._detect([images], thresholds)).to_supervision()
        return [found.to_supervision() for found in self._detect(images, thresholds)]

    def detect_boxes(self, image: ImageInput | ReducedImage) -> BoxDetections:
        """As the call, for one picture, in a type that needs no supervision."""
        return next(self._detect([image], self._thresholds))

    def detect_video(
        self, video: str | Path | Video, *, threshold: Threshold | None = None
    ) -> Iterator[tuple[Frame, sv.Detections]]:
        """Finds the faces in each frame of a video file, with a few frames in memory at a time.

        The file closes at the end, on an error, and when the iterator is closed or dropped.

        Args:
            video: path of a file, or an open `Video`, which stays open.
            threshold: as in the constructor, for this video only.

        Yields:
            A frame (`index`, `time_s` in seconds by the container's timestamps, `image_rgb` uint8
            (H, W, 3)) and its detections, in the order of display.

        Raises:
            SourceError: the file is not a video; or, after its last readable frame: it is truncated or
                damaged.

        Examples:
            >>> for frame, detections in Detector().detect_video("door.mp4"):
            ...     print(frame.time_s, len(detections))
        """
        from maskwatch.media.videos import Video

        thresholds = self._resolve(threshold, self._thresholds)
        with contextlib.ExitStack() as stack:
            if not isinstance(video, Video):
                video = stack.enter_context(Video(Path(video)))
            for batch in video.batches(BATCH_SIZE):
                found = self._detect([frame.image_rgb for frame in batch], thresholds)
                for frame, boxes in zip(batch, found, strict=True):
                    yield frame, boxes.to_supervision()

    def detect_folder(
        self,
        folder: str | Path,
        *,
        threshold: Threshold | None = None,
        on_error: Callable[[Path, ImageError | SourceError], None] | None = None,
    ) -> Iterator[tuple[Path, sv.Detections]]:
        """Finds the faces in each picture in a folder and its subfolders.

        Pictures are found by suffix; hidden files and videos are skipped.

        Args:
            folder: path of the folder.
            threshold: as in the constructor, for this folder only.
            on_error: called with the path and the error of a picture that cannot be read, which is then
                skipped; None raises that error.

        Yields:
            The path of a picture, and its detections.

        Raises:
            SourceError: there is no such folder, or no picture or video in it.
            ImageError: a picture cannot be read, and `on_error` is None.
        """
        from maskwatch.media.sources import Source, find_sources

        thresholds = self._resolve(threshold, self._thresholds)

        def detect(source: Source) -> BoxDetections:
            return next(self._detect([self.read(source.read(), source.name)], thresholds))

        pictures = [source for source in find_sources([str(folder)]) if source.kind != "video"]
        for source, result in in_order(detect, pictures, self.workers + 1, Source.is_regular):
            assert source.path is not None, "a folder gives files"
            try:
                found = result()
            except (ImageError, SourceError) as error:
                if on_error is None:
                    raise
                on_error(source.path, error)
            else:
                yield source.path, found.to_supervision()

    def read(self, source: FileInput, name: str | None = None) -> ReducedImage:
        """Reads a picture file, a JPEG much larger than the network's input at a reduced size.

        Raises:
            ImageError: it cannot be read; `name` is its name in the message, or its path.
        """
        side = max(READ_SIDE, READ_SCALE * max(self.input_size))
        return read_reduced(source, side, exact=True, name=name)

    def prepare(self, images: Sequence[ImageInput | ReducedImage]) -> tuple[UInt8Array, list[Placement]]:
        """Reads pictures and resizes them to network size: uint8 (N, H, W, 3), and the placement of each."""
        fitted = [self._fit(image) for image in images]
        return np.stack([canvas for canvas, _ in fitted]), [placement for _, placement in fitted]

    def run(self, batch_nhwc: UInt8Array, *, threshold: Threshold | None = None) -> RawDetections:
        """Runs the model on a prepared batch (N, H, W, 3)."""
        return self._run(batch_nhwc, self._resolve(threshold, self._thresholds))

    def collect(self, raw: RawDetections, placements: Sequence[Placement]) -> list[sv.Detections]:
        """Turns the model's padded output into one `Detections` per picture, in pixels of the picture."""
        return [boxes.to_supervision() for boxes in self._collect(raw, placements)]

    def _detect(
        self, images: Sequence[ImageInput | ReducedImage], thresholds: tuple[float, ...]
    ) -> Iterator[BoxDetections]:
        for start in range(0, len(images), BATCH_SIZE):
            batch, placements = self.prepare(images[start : start + BATCH_SIZE])
            yield from self._collect(self._run(batch, thresholds), placements)

    def _fit(self, image: ImageInput | ReducedImage) -> tuple[UInt8Array, Placement]:
        if isinstance(image, (str, Path, bytes, bytearray, memoryview)):
            image = self.read(image)
        if not isinstance(image, ReducedImage):
            return fit(as_rgb(image), self.input_size, self._metadata.resize)
        return fit(image.image_rgb, self.input_size, self._metadata.resize, image.metadata.size_hw)

    def _run(self, batch_nhwc: UInt8Array, thresholds: tuple[float, ...]) -> RawDetections:
        scores: FloatArray = np.array(thresholds, np.float32)
        return self._runtime(batch_nhwc, scores, self._iou_threshold, self._class_agnostic)

    def _collect(self, raw: RawDetections, placements: Sequence[Placement]) -> list[BoxDetections]:
        return [self._collect_one(raw, row, placement) for row, placement in enumerate(placements)]

    def _collect_one(self, raw: RawDetections, row: int, placement: Placement) -> BoxDetections:
        used = slice(int(raw.num_detections[row]))
        boxes_xyxy = placement.to_original(raw.boxes[row, used])
        # A box inside the letterbox's padding has no area left.
        real = (boxes_xyxy[:, 2] > boxes_xyxy[:, 0]) & (boxes_xyxy[:, 3] > boxes_xyxy[:, 1])
        class_ids = raw.classes[row, used][real].astype(np.int64)
        return BoxDetections(
            xyxy=boxes_xyxy[real],
            confidence=raw.scores[row, used][real].astype(np.float32),
            class_id=class_ids,
            data={"class_name": self._class_names[class_ids]},
        )

    def _resolve(self, threshold: Threshold | None, defaults: Sequence[float]) -> tuple[float, ...]:
        if threshold is None:
            return tuple(defaults)
        if not isinstance(threshold, Mapping):
            return (_unit("threshold", threshold),) * len(self.class_names)
        try:
            values = class_values(self.class_names, threshold, defaults)
        except KeyError as error:
            raise LabelError(
                f"threshold names class {error.args[0]!r}, which {self.name} does not have; "
                f"use {', '.join(self.class_names)}"
            ) from None
        for name, value in threshold.items():
            _unit(f"threshold of {name}", value)
        return tuple(map(float, values))


def only_classes(detections: _Detections, class_ids: Collection[int]) -> _Detections:
    """The detections of these classes, in the same order."""
    assert detections.class_id is not None, "every Detector gives classes"
    kept = detections[np.isin(detections.class_id, list(class_ids))]
    assert isinstance(kept, type(detections))
    return kept


def _unit(name: str, value: float) -> float:
    # Real is what float, int and NumPy's numbers have in common.
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or not 0 <= value <= 1:
        raise OptionError(f"{name} is {value!r}; pass a number from 0 to 1")
    return float(value)

"""Runs `maskwatch detect`: checks all options first, then detects in one source after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from maskwatch.boxes import BoxDetections
from maskwatch.cli.cluster_options import check_needs_ray
from maskwatch.cli.detect_options import DetectOptions
from maskwatch.cli.detect_printer import DetectPrinter, VideoCounts
from maskwatch.cli.options import parse_names, parse_threshold, pick_model, pick_runtime
from maskwatch.detector import Detector, only_classes
from maskwatch.errors import ImageError, LabelError, OptionError, SourceError
from maskwatch.labels import find_classes
from maskwatch.media.images import ReducedImage, read_image
from maskwatch.media.sources import Source, find_sources, plan_targets
from maskwatch.outputs import check_targets, make_folder
from maskwatch.records import CsvWriter, JsonWriter, RecordWriter, Result, open_record_file
from maskwatch.runtimes.choice import RuntimeSettings
from maskwatch.system import in_order, usable_cores

if TYPE_CHECKING:
    from maskwatch.cli.detect_annotator import VideoAnnotator


def run_detect(options: DetectOptions) -> int:
    """Returns the number of skipped sources; raises a `MaskwatchError` where nothing can be done."""
    check_needs_ray(
        options.ray,
        workers=options.workers,
        gpu_share=options.gpu_share,
        parquet=options.parquet,
        jsonl=options.jsonl,
        resume=options.resume,
        column=options.column,
        name_column=options.name_column,
    )
    sources, targets = _plan(options)
    detector = open_detector(options, _runtime(options, sources))
    class_ids = wanted_classes(detector, options.classes)
    total = len(sources) if len(sources) > 1 or sources[0].kind == "video" else 0
    printer = open_printer(options, detector, class_ids, total)
    with open_writers(detector, options) as writers, printer:
        run = _DetectRun(detector, class_ids, targets, options.blur, printer, writers)
        for source, result in in_order(run.find, sources, detector.workers + 1, _may_start):
            with printer.source(source.name):
                run.add(source, result)
    printer.table()
    return printer.failures


def open_printer(
    options: DetectOptions, detector: Detector, class_ids: Collection[int], total: int
) -> DetectPrinter:
    """Prints the classes that are wanted; on standard error where records go to standard output."""
    return DetectPrinter(
        detector.metadata.title,
        [name for i, name in enumerate(detector.class_names) if i in class_ids],
        to_stderr="-" in (options.json_file, options.csv_file),
        total=total,
    )


def open_detector(options: DetectOptions, settings: RuntimeSettings) -> Detector:
    """The detector that the options name, on what the settings say."""
    return Detector(
        pick_model(options.model, options.size),
        threshold=parse_threshold(options.threshold),
        class_agnostic=False if options.per_class_nms else None,
        **asdict(settings),
    )


class _Found(NamedTuple):
    """data: what was decoded; picture: what the network saw, reduced; boxes: in pixels of the whole one."""

    data: Path | bytes
    picture: ReducedImage
    boxes: BoxDetections


@dataclass(frozen=True)
class _DetectRun:
    detector: Detector
    class_ids: frozenset[int]
    targets: Mapping[Source, Path]
    blurred: bool
    printer: DetectPrinter
    writers: list[RecordWriter]

    def find(self, source: Source) -> _Found:
        """Detects in a picture; called in several threads at once."""
        data = source.read()
        picture = self.detector.read(data, source.name)
        return _Found(data, picture, self.detector.detect_boxes(picture))

    def add(self, source: Source, result: Callable[[], _Found]) -> None:
        """Takes the result of a picture, or detects in a video; reports and skips one that cannot be read."""
        try:
            if source.kind == "video":
                self._detect_video(source)
            else:
                self._add_picture(source, result())
        except (ImageError, SourceError) as error:
            self.printer.failure(str(error))
            for writer in self.writers:
                writer.fail(source.name, str(error).removeprefix(f"{source.name}: "))

    def _add_picture(self, source: Source, found: _Found) -> None:
        shown = only_classes(found.boxes, self.class_ids)
        if source in self.targets:
            self._save_picture(source, found, shown)
        height, width = found.picture.metadata.size_hw
        self._write(Result(source.name, width, height, shown))
        self.printer.picture(source.name, shown)

    def _save_picture(self, source: Source, found: _Found, shown: BoxDetections) -> None:
        from maskwatch.drawing.annotate import draw, save_picture

        image_rgb = found.picture.image_rgb
        if image_rgb.shape[:2] != found.picture.metadata.size_hw:  # reduced for the network
            image_rgb = read_image(found.data, name=source.name)
        if self.blurred:
            from maskwatch.cli.detect_annotator import faces_to_blur
            from maskwatch.drawing.blur import blur

            image_rgb = blur(image_rgb, *faces_to_blur(self.detector, [image_rgb], [found.boxes]))
        save_picture(draw(image_rgb, shown), self.targets[source])

    def _write(self, result: Result) -> None:
        for writer in self.writers:
            writer.add(result)

    def _detect_video(self, source: Source) -> None:
        """A damaged video gives results up to its last readable frame, and counts as skipped."""
        from maskwatch.media.videos import Video

        assert source.path is not None
        counts, broken = VideoCounts(source.name), None
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(Video(source.path))
            advance = stack.enter_context(self.printer.video_progress(video.duration_s))
            annotator = self._video_annotator(source, video.fps, stack)
            try:
                for frame, found in self.detector.detect_video(video):
                    shown = only_classes(found, self.class_ids)
                    height, width = frame.image_rgb.shape[:2]
                    self._write(Result(source.name, width, height, shown, frame.index, frame.time_s))
                    counts.add(self.printer.count(shown))
                    if annotator:
                        annotator.add(frame, found, shown)
                    advance(frame.time_s)
            except SourceError as error:  # caught here, to keep the annotated video
                broken = error
            if annotator:
                annotator.finish()
        if counts.frames:
            self.printer.video(counts)
        if broken:
            raise broken

    def _video_annotator(
        self, source: Source, fps: float, stack: contextlib.ExitStack
    ) -> VideoAnnotator | None:
        if source not in self.targets:
            return None
        from maskwatch.cli.detect_annotator import VideoAnnotator
        from maskwatch.media.videos import video_writer

        make_folder(self.targets[source].parent)
        write = stack.enter_context(video_writer(self.targets[source], fps))
        return VideoAnnotator(self.detector, write, blurred=self.blurred)


def _plan(options: DetectOptions) -> tuple[list[Source], dict[Source, Path]]:
    """The sources, and the path of the annotated copy of each."""
    if options.blur and options.out is None:
        raise OptionError("--blur changes the pictures that --out writes; add --out DIR")
    sources = find_sources(options.sources, leave_out=options.out)
    targets = plan_targets(sources, options.out) if options.out else {}
    check_files(options, sources, targets.values())
    return sources, targets


def check_files(options: DetectOptions, sources: Sequence[Source], targets: Iterable[Path] = ()) -> None:
    """Raises a `MaskwatchError` if a file of `--json` or `--csv`, or another target, cannot be written."""
    files = [Path(name) for name in (options.json_file, options.csv_file) if name and name != "-"]
    read = [source.path for source in sources if source.path]
    check_targets([*targets, *files], read, force=options.force)
    if options.json_file and options.json_file == options.csv_file:
        raise OptionError(f"--json and --csv both write to {options.json_file}; give each its own file")
    for file in files:
        if not file.parent.is_dir():
            raise OptionError(f"{file}: the folder {file.parent} does not exist; create it first")


def _may_start(source: Source) -> bool:
    """Whether a source can be read before its turn: not a video, a pipe or an address."""
    return source.kind == "picture" and source.is_regular()


def _runtime(options: DetectOptions, sources: Sequence[Source]) -> RuntimeSettings:
    """Several pictures are computed at once, on a core each; a video is computed on all cores."""
    settings = pick_runtime(options)
    videos = any(source.kind == "video" for source in sources)
    return settings if videos or sum(map(_may_start, sources)) <= usable_cores() else settings.for_workers()


@contextlib.contextmanager
def open_writers(detector: Detector, options: DetectOptions) -> Iterator[list[RecordWriter]]:
    """The writers of `--json` and `--csv`, closed at the end."""
    with contextlib.ExitStack() as stack:
        writers: list[RecordWriter] = []
        if options.json_file:
            about = detector.metadata
            model: dict[str, Any] = {"name": about.name, "version": about.version, "classes": about.classes}
            model["thresholds"] = detector.thresholds
            writers.append(JsonWriter(stack.enter_context(open_record_file(options.json_file)), model))
        if options.csv_file:
            writers.append(CsvWriter(stack.enter_context(open_record_file(options.csv_file))))
        yield writers
        for writer in writers:
            writer.close()


def wanted_classes(detector: Detector, classes: str | None) -> frozenset[int]:
    """The ids of `--classes`, or all; raises `LabelError`."""
    names = parse_names(classes)
    if names is None:
        return frozenset(range(len(detector.class_names)))
    what = "class without a name"
    try:
        found = find_classes(detector.class_names, names)
    except KeyError as error:
        found, what = [], f"class {error.args[0]!r}"
    if not found:
        known = ", ".join(detector.class_names)
        raise LabelError(f"--classes {classes!r}: {detector.name} has no {what}; use some of {known}")
    return frozenset(found)

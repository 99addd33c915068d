"""The work behind `maskwatch detect`: everything is checked first, then the sources go through one by one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import supervision as sv

from maskwatch.cli.annotate import DrawnVideo, Painter
from maskwatch.cli.options import parse_names, parse_threshold, pick_model
from maskwatch.cli.report import Report, VideoTally
from maskwatch.detector import BATCH_SIZE, Detector, only_classes
from maskwatch.drawing.annotate import save_picture
from maskwatch.errors import ImageError, LabelError, OptionError, SourceError
from maskwatch.labels import find_classes
from maskwatch.media.sources import Source, find_sources, plan_targets
from maskwatch.media.videos import Frame, Video, video_writer
from maskwatch.outputs import check_targets, make_folder
from maskwatch.records import CsvWriter, JsonWriter, RecordWriter, Result, Writers, open_target


@dataclass(frozen=True)
class Job:
    """A planned run: nothing stands in its way that could be seen beforehand."""

    detector: Detector
    sources: Sequence[Source]
    targets: dict[Source, Path]
    painter: Painter
    class_ids: frozenset[int]
    json_file: str | None
    csv_file: str | None

    @classmethod
    def plan(
        cls,
        specs: Sequence[str],
        *,
        out: Path | None,
        blur: bool,
        json_file: str | None,
        csv_file: str | None,
        threshold: str | None,
        model: str | None,
        size: int | None,
        classes: str | None,
        per_class_nms: bool,
        force: bool,
        threads: int | None,
    ) -> Job:
        """Checks the options, finds the sources, loads the model, and makes sure that results can be written.

        Raises:
            MaskwatchError: any of this fails; nothing has been written then.
        """
        thresholds = parse_threshold(threshold)
        if blur and out is None:
            raise OptionError("--blur changes the pictures that --out writes; add --out DIR")
        sources = find_sources(specs, leave_out=out)
        targets = plan_targets(sources, out) if out else {}
        files = [Path(name) for name in (json_file, csv_file) if name and name != "-"]
        read = [source.path for source in sources if source.path]
        check_targets([*targets.values(), *files], read, force=force)
        if json_file and json_file == csv_file:
            raise OptionError(f"--json and --csv both write to {json_file}; give each its own file")
        for file in files:
            if not file.parent.is_dir():
                raise OptionError(f"{file}: the folder {file.parent} does not exist; create it first")
        detector = Detector(
            pick_model(model, size),
            threshold=thresholds,
            class_agnostic=False if per_class_nms else None,
            threads=threads,
        )
        painter = Painter(detector, blurred=blur)
        return cls(detector, sources, targets, painter, _class_ids(detector, classes), json_file, csv_file)

    def run(self) -> int:
        """Does the work; returns the number of sources that had to be skipped."""
        names = [name for i, name in enumerate(self.detector.class_names) if i in self.class_ids]
        videos = any(source.kind == "video" for source in self.sources)
        total = len(self.sources) if videos or len(self.sources) > 1 else 0
        to_stderr = "-" in (self.json_file, self.csv_file)
        report = Report(self.detector.metadata.title, names, to_stderr=to_stderr, total=total)
        with self._writers() as writers, report:
            for source in self.sources:
                report.begin(source.name)
                try:
                    self._detect(source, report, writers)
                except (ImageError, SourceError) as error:
                    report.failure(str(error))
                    writers.fail(source.name, str(error).removeprefix(f"{source.name}: "))
                report.end()
        report.table()
        return report.failures

    def _detect(self, source: Source, report: Report, writers: Writers) -> None:
        if source.kind == "video":
            self._detect_video(source, report, writers)
            return
        image_rgb = source.load_picture()
        found = self.detector(image_rgb)
        detections = self._kept(found)
        if source in self.targets:
            (hidden_xyxy,) = self.painter.to_hide([image_rgb], [found])
            save_picture(self.painter.paint(image_rgb, detections, hidden_xyxy), self.targets[source])
        writers.add(Result(source.name, image_rgb.shape[1], image_rgb.shape[0], detections))
        report.picture(source.name, detections)

    def _detect_video(self, source: Source, report: Report, writers: Writers) -> None:
        """The results of a video that breaks off stand for its readable part; it counts as skipped."""
        assert source.path is not None
        tally, broken = VideoTally(source.name), None
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(Video(source.path))
            advance = stack.enter_context(report.video_progress(video.duration_s))
            drawn = self._drawn_video(source, video.fps, stack)
            try:
                for frame, detections in self._frames(video, drawn):
                    height, width = frame.image_rgb.shape[:2]
                    writers.add(Result(source.name, width, height, detections, frame.index, frame.time_s))
                    tally.add(report.count(detections))
                    advance(frame.time_s)
            except SourceError as error:  # caught in here, so that the drawn video is kept
                broken = error
            if drawn:
                drawn.finish()
        if tally.frames:
            report.video(tally)
        if broken:
            raise broken

    def _frames(self, video: Video, drawn: DrawnVideo | None) -> Iterator[tuple[Frame, sv.Detections]]:
        for batch in _batches(video.frames()):
            found = self.detector([frame.image_rgb for frame in batch])
            kept = [self._kept(detections) for detections in found]
            if drawn:
                drawn.add(batch, found, kept)
            yield from zip(batch, kept, strict=True)

    def _drawn_video(self, source: Source, fps: float, stack: contextlib.ExitStack) -> DrawnVideo | None:
        if source not in self.targets:
            return None
        make_folder(self.targets[source].parent)
        return DrawnVideo(self.painter, stack.enter_context(video_writer(self.targets[source], fps)))

    def _kept(self, detections: sv.Detections) -> sv.Detections:
        return only_classes(detections, self.class_ids)

    @contextlib.contextmanager
    def _writers(self) -> Iterator[Writers]:
        with contextlib.ExitStack() as stack:
            writers: list[RecordWriter] = []
            if self.json_file:
                about = self.detector.metadata
                model = {
                    "name": about.name,
                    "version": about.version,
                    "classes": about.classes,
                    "thresholds": self.detector.thresholds,
                }
                writers.append(JsonWriter(stack.enter_context(open_target(self.json_file)), model))
            if self.csv_file:
                writers.append(CsvWriter(stack.enter_context(open_target(self.csv_file))))
            together = Writers(writers)
            yield together
            together.close()


def _class_ids(detector: Detector, classes: str | None) -> frozenset[int]:
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


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Frames in lists of `BATCH_SIZE`; those before an error come before it."""
    batch: list[Frame] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == BATCH_SIZE:
                yield batch
                batch = []
    except SourceError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch

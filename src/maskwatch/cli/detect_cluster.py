"""The work of `maskwatch detect --ray`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from maskwatch.cli.cluster_options import cluster_options
from maskwatch.cli.detect_options import DetectOptions
from maskwatch.cli.detect_printer import DetectPrinter, VideoCounts
from maskwatch.cli.detect_runner import check_files, open_detector, open_printer, open_writers, wanted_classes
from maskwatch.cli.options import pick_runtime
from maskwatch.errors import OptionError
from maskwatch.records import RecordWriter

if TYPE_CHECKING:
    from maskwatch.cluster.sink import RecordFormat


def run_on_cluster(options: DetectOptions) -> int:
    """Returns the number of skipped sources; raises a `MaskwatchError` where nothing can be done."""
    assert options.ray is not None
    _check(options)
    cluster = cluster_options(
        options.ray,
        workers=options.workers,
        threads=options.threads,
        gpu_share=options.gpu_share,
        column=options.column,
        name_column=options.name_column,
    )
    detector = open_detector(options, replace(pick_runtime(options), threads=cluster.cpus))
    class_ids = wanted_classes(detector, options.classes)
    printer = open_printer(options, detector, class_ids, total=0)
    from maskwatch.cluster import connection, detect, detect_to

    with connection(options.ray), printer:
        if (folder := options.parquet or options.jsonl) is not None:
            record_format: RecordFormat = "jsonl" if options.parquet is None else "parquet"
            written, missing = detect_to(
                folder,
                options.sources,
                detector,
                cluster,
                class_ids=class_ids,
                record_format=record_format,
                rows_per_file=options.rows_per_file,
                resume=options.resume,
            )
            printer.add_totals(written.faces, written.images, written.kinds, written.failures + missing)
            if missing:
                print(
                    f"{missing} sources have no row, see Ray's logs (/tmp/ray); --resume tries them again",
                    file=sys.stderr,
                )
        else:
            rows = detect(options.sources, detector, cluster, class_ids=class_ids, in_order=True).iter_rows()
            with open_writers(detector, options) as writers:
                _report(rows, printer, writers)
    printer.table()
    return printer.failures


def _check(options: DetectOptions) -> None:
    if options.out is not None or options.blur:
        raise OptionError("--out and --blur write on this machine; leave them out, or leave out --ray")
    if options.parquet is not None and options.jsonl is not None:
        raise OptionError("--parquet and --jsonl are two formats of one result; give one of them")
    files = options.json_file or options.csv_file
    if files and (options.parquet or options.jsonl):
        raise OptionError(
            "--json and --csv bring the rows here, --parquet and --jsonl write them there; choose"
        )
    if options.resume and not (options.parquet or options.jsonl):
        raise OptionError("--resume goes on from a folder of results; add --parquet DIR or --jsonl DIR")
    check_files(options, [])


def _report(rows: Iterable[dict[str, Any]], printer: DetectPrinter, writers: list[RecordWriter]) -> None:
    """Prints and writes rows, which come in the order of the sources."""
    from maskwatch.cluster.rows import to_record

    video: VideoCounts | None = None
    for row in rows:
        if video is not None and video.name != row["source"]:
            printer.video(video)
            video = None
        if row["error"] is not None:
            _report_error(row, printer, writers)
            continue
        for writer in writers:
            writer.add_record(to_record(row))
        faces = printer.count_names(one["class"] for one in row["detections"])
        if row["kind"] == "video":
            video = video or VideoCounts(row["source"])
            video.add(faces)
        else:
            printer.counted_picture(row["source"], faces)
    if video is not None:
        printer.video(video)


def _report_error(row: dict[str, Any], printer: DetectPrinter, writers: list[RecordWriter]) -> None:
    printer.failure(f"{row['source']}: {row['error']}")
    for writer in writers:
        writer.fail(row["source"], row["error"])

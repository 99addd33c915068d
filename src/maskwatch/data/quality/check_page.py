"""The page of a check: every fault with the part of the picture that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwatch.data.issues import Box, Fault
from maskwatch.data.quality.check import Check, by_kind, picture_path
from maskwatch.errors import ImageError
from maskwatch.html import data_uri, link, render
from maskwatch.html.crops import RED, crop

SHOWN = 24
"""Faults of one kind with a picture of their own; the page says how many more there are."""


def check_page(check: Check, name: str, folder: Path) -> str:
    """The page as HTML.

    Args:
        check: what was found.
        name: of the data set, for the title.
        folder: where the page will lie; links to pictures are relative to it.
    """
    counts, ignored = check.counts(), check.ignored()
    splits = [
        {
            "name": split or "all",
            "pictures": sum(picture.split == split for picture in check.pictures),
            "counts": [count[class_name] for class_name in check.class_names],
            "ignored": ignored[split],
        }
        for split, count in counts.items()
    ]
    kinds = [
        {
            "name": kind,
            "severity": faults[0].severity,
            "number": len(faults),
            "example": faults[0].text,
            "faults": [_fault(fault, folder) for fault in faults[:SHOWN]],
        }
        for kind, faults in by_kind(check.faults).items()
    ]
    return render(
        "data_check.html.j2",
        name=name,
        pictures=len(check.pictures),
        boxes=sum(count.total() for count in counts.values()),
        ignored=sum(ignored.values()),
        errors=check.errors,
        warnings=len(check.faults) - check.errors,
        classes=check.class_names,
        splits=splits,
        kinds=kinds,
    )


def _fault(fault: Fault, folder: Path) -> dict[str, Any]:
    picture = picture_path(fault)
    shown = None if picture is None else _shown(picture, fault.box_xyxy)
    twin = None if fault.twin is None else _shown(fault.twin, None)
    return {
        "file": fault.file.name,
        "where": fault.where,
        "text": fault.text,
        "mend": fault.mend,
        "picture": None if picture is None else picture.name,
        "href": "" if picture is None else link(picture, folder),
        "crop": shown,
        "twin": None if fault.twin is None else fault.twin.name,
        "twin_href": "" if fault.twin is None else link(fault.twin, folder),
        "twin_crop": twin,
        "boxed": fault.box_xyxy is not None,
    }


def _shown(path: Path, box_xyxy: Box | None) -> str | None:
    """The picture, or the part around the box, as an address; None where it cannot be read."""
    try:
        return data_uri(crop(path, [] if box_xyxy is None else [(box_xyxy, RED)]))
    except ImageError:
        return None

"""The HTML page of a check: every issue with the part of the image that it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwatch.data.issues import Box, Issue
from maskwatch.data.quality.check import CheckResult
from maskwatch.errors import ImageError
from maskwatch.html import data_uri, link, render
from maskwatch.html.crops import RED, crop

SHOWN = 24
"""Issues of one kind that are shown; the page states how many more there are."""


def check_page(check: CheckResult, name: str, folder: Path) -> str:
    """The page as HTML.

    Args:
        name: of the data set, for the title.
        folder: of the page; links to pictures are relative to it.
    """
    pictures, counts, ignored = check.num_images(), check.counts(), check.ignored()
    splits = [
        {
            "name": split or "all",
            "pictures": pictures[split],
            "counts": [count[class_name] for class_name in check.class_names],
            "ignored": ignored[split],
        }
        for split, count in counts.items()
    ]
    kinds = [
        {
            "name": kind,
            "severity": issues[0].severity,
            "number": len(issues),
            "example": issues[0].text,
            "issues": [_shown_issue(issue, folder) for issue in issues[:SHOWN]],
        }
        for kind, issues in check.by_kind().items()
    ]
    return render(
        "data_check.html.j2",
        name=name,
        pictures=len(check.images),
        boxes=sum(count.total() for count in counts.values()),
        ignored=sum(ignored.values()),
        errors=check.errors,
        warnings=check.warnings,
        classes=check.class_names,
        splits=splits,
        kinds=kinds,
    )


def _shown_issue(issue: Issue, folder: Path) -> dict[str, Any]:
    picture = None if issue.kind == "picture-unreadable" else issue.image
    return {
        "file": issue.file.name,
        "where": issue.where,
        "text": issue.text,
        "fix": issue.fix,
        "picture": None if picture is None else picture.name,
        "href": "" if picture is None else link(picture, folder),
        "crop": _crop(picture, issue.box_xyxy),
        "twin": None if issue.twin is None else issue.twin.name,
        "twin_href": "" if issue.twin is None else link(issue.twin, folder),
        "twin_crop": _crop(issue.twin, None),
        "boxed": issue.box_xyxy is not None,
    }


def _crop(path: Path | None, box_xyxy: Box | None) -> str | None:
    """The image, or the part around the box, as a data URI; None if there is none or it cannot be read."""
    try:
        return None if path is None else data_uri(crop(path, [] if box_xyxy is None else [(box_xyxy, RED)]))
    except ImageError:
        return None

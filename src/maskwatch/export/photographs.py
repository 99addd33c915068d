"""The photographs that an export is verified on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskwatch.errors import ExportError, OptionError
from maskwatch.media.images import UInt8Array, read_image
from maskwatch.media.sources import find_sources

LIMIT = 12
"""At most this many images of a folder are used, spread over it."""

BATCH = 3
"""At least this many different ones, to fill a batch in which a file could mix them up."""

_OWN = ("astronaut.jpg", "astronaut_masked.jpg")
# In an installed package, and in a checkout, where the examples are the only copy.
_FOLDERS = (Path(__file__).parent / "pictures", Path(__file__).parents[3] / "examples")


@dataclass(frozen=True)
class Photograph:
    """An image, uint8 (h, w, 3) RGB, and its name."""

    name: str
    image_rgb: UInt8Array


def own_photographs() -> list[Photograph]:
    """The portraits that come with the package; raises ExportError where this installation lacks them."""
    for folder in _FOLDERS:
        paths = [folder / name for name in _OWN]
        if all(path.is_file() for path in paths):
            return read_photographs(paths)
    raise ExportError(
        f"the pictures to verify on ({', '.join(_OWN)}) are missing from this installation; "
        "name photographs of your own with --verify-on"
    )


def photographs_at(path: str | Path) -> list[Photograph]:
    """The image at a path, or some of those in a folder.

    Raises:
        SourceError, OptionError: nothing is there, or no image.
        ImageError: an image cannot be read.
    """
    sources = find_sources([str(path)])
    paths = [source.path for source in sources if source.path is not None and source.kind == "picture"]
    if not paths:
        raise OptionError(f"--verify-on {path}: no picture file; name a photograph or a folder of them")
    return read_photographs(paths)


def read_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """Up to `LIMIT` of the images, at even steps; where there are too few, also mirrored and upside down.

    Raises:
        ImageError: an image cannot be read.
    """
    step = -(-len(paths) // LIMIT)
    read = [Photograph(path.name, read_image(path)) for path in paths[::step]]
    extra = [Photograph(f"{photo.name} mirrored", photo.image_rgb[:, ::-1]) for photo in read]
    extra += [Photograph(f"{photo.name} upside down", photo.image_rgb[::-1]) for photo in read]
    return [*read, *extra[: max(0, BATCH - len(read))]]

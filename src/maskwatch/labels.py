"""The classes: canonical names, the spellings that annotators use for them, and colours.

A data set of other classes (helmets, gloves) is named with `--classes`; the aliases below only apply to
names that stand in `MASK_CLASSES`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from maskwatch.errors import LabelError

MASK_CLASSES = ("mask", "no_mask", "mask_incorrect")

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "mask": ("with_mask", "masked", "face_mask", "mask_on", "wearing_mask", "correct_mask"),
    "no_mask": ("without_mask", "unmasked", "nomask", "no_face_mask", "bare", "mask_off", "face_no_mask"),
    "mask_incorrect": (
        "mask_weared_incorrect",
        "mask_worn_incorrectly",
        "with_incorrect_mask",
        "incorrect_mask",
        "incorrect",
        "bad_mask",
        "improper_mask",
        "mask_improper",
    ),
}

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), made to be told apart with any colour vision.
# The order gives the three mask classes bluish green, vermilion and orange-yellow.
PALETTE_RGB = (
    (0, 158, 115),
    (213, 94, 0),
    (240, 228, 66),
    (86, 180, 233),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
)

UNDECIDED_ID = -1
"""Stands for a class id where it is not known yet."""

_UNDECIDED_RGB = (160, 160, 160)


def normalize(name: str) -> str:
    """Lower case with single underscores: `"No Mask"` and `"no-mask"` are both `"no_mask"`."""
    return re.sub(r"[^0-9a-z]+", "_", name.strip().lower()).strip("_")


def color_rgb(class_id: int) -> tuple[int, int, int]:
    """Colour of a class, the same in every picture and plot; grey for `UNDECIDED_ID`."""
    return _UNDECIDED_RGB if class_id == UNDECIDED_ID else PALETTE_RGB[class_id % len(PALETTE_RGB)]


def parse_class_numbers(text: str) -> float | dict[str, float]:
    """`"0.5"` → one number for all classes, `"mask=0.6,no_mask=0.3"` → class name → number.

    Raises:
        ValueError: neither of these; says what to write.
    """
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(
            f"{text!r} is no number; write 0.5, or mask=0.6,no_mask=0.3 for single classes"
        ) from None


class ClassMap:
    """Maps the names that stand in annotations to class ids.

    Args:
        names: canonical class names in the order of their ids.
        aliases: spelling → canonical name, in addition to the built-in spellings of the mask classes.
            A spelling that maps to the empty string is known and left out on purpose.

    Raises:
        LabelError: a name occurs twice, is empty, or an alias points at no class.
    """

    def __init__(self, names: Sequence[str] = MASK_CLASSES, aliases: Mapping[str, str] | None = None) -> None:
        self.names = tuple(names)
        if not self.names or any(not name.strip() for name in self.names):
            raise LabelError(f"class names {list(names)} hold an empty one; give each class a name")
        self._ids: dict[str, int | None] = {}
        for class_id, name in enumerate(self.names):
            if normalize(name) in self._ids:
                raise LabelError(f"class {name!r} is named twice; give each class its own name")
            self._ids[normalize(name)] = class_id
        for name, spellings in _ALIASES.items():
            if name in self.names:
                for spelling in spellings:
                    self._ids.setdefault(normalize(spelling), self.names.index(name))
        for spelling, name in (aliases or {}).items():
            self._ids[normalize(spelling)] = None if not name else self.id_of(name)

    @classmethod
    def parse(cls, text: str | None) -> ClassMap:
        """Reads `--classes`: `"helmet,no_helmet"`, or with spellings `"helmet=hat|Hard Hat,head"`.

        `"=person|dog"` leaves out objects of those names. None or an empty text gives the mask classes.
        """
        if not text or not text.strip():
            return cls()
        names: list[str] = []
        aliases: dict[str, str] = {}
        for part in text.split(","):
            name, _, spellings = (piece.strip() for piece in part.partition("="))
            if name:
                names.append(name)
            elif not spellings:
                raise LabelError(f"--classes {text!r} holds an empty name; write for example mask,no_mask")
            aliases |= {spelling: name for spelling in spellings.split("|") if spelling.strip()}
        return cls(names, aliases)

    def id_of(self, name: str) -> int:
        """Class id of an annotated name.

        Raises:
            LabelError: the name is not known, or is left out on purpose; the message names the nearest one.
        """
        class_id = self._ids.get(normalize(name))
        if class_id is None:
            near = difflib.get_close_matches(normalize(name), self._ids, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.names)}."
            raise LabelError(
                f"unknown class {name!r}; {hint} Map it with --classes, e.g. {self.names[0]}={name}"
            )
        return class_id

    def ignores(self, name: str) -> bool:
        """True for a spelling that `--classes` leaves out on purpose."""
        return normalize(name) in self._ids and self._ids[normalize(name)] is None

    def spellings(self) -> tuple[str, ...]:
        """All spellings that map to a class, normalised."""
        return tuple(spelling for spelling, class_id in self._ids.items() if class_id is not None)

    def __len__(self) -> int:
        return len(self.names)

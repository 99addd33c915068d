"""The classes: canonical names, the spellings that annotators use for them, and colours.

A data set of other classes (helmets, gloves) is named with `--classes`; the aliases below only apply to
names that stand in `MASK_CLASSES`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from maskwatch.errors import LabelError

MASK_CLASSES = ("mask", "no_mask", "mask_incorrect")

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "mask": ("with_mask", "masked", "face_mask", "mask_on", "wearing_mask", "correct_mask"),
    "no_mask": ("without_mask", "unmasked", "no_face_mask", "bare", "mask_off", "face_no_mask"),
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

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), distinct with any colour vision.
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


@lru_cache(maxsize=4096)
def normalize(name: str) -> str:
    """What all spellings of one class have in common: `"No Mask"` and `"no-mask"` are both `"nomask"`.

    Case, spaces, `_` and `-` do not count, nor what cannot be seen: whether an accent is a character of its
    own, the width of letters in East Asian typing, and marks without an image. All else makes another class.

    Source: canonical caseless matching of the Unicode Standard, section 3.13, D145.
    """
    text = unicodedata.normalize("NFD", "".join(map(_plain_width, name))).casefold()
    kept = "".join(sign for sign in unicodedata.normalize("NFD", text) if not _is_passed_over(sign))
    # Of a name of such marks alone nothing would be left, and all of these would be one class.
    return unicodedata.normalize("NFC", kept or text.strip())


def _plain_width(sign: str) -> str:
    wide = unicodedata.decomposition(sign).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", sign) if wide else sign


def _is_passed_over(sign: str) -> bool:
    return sign.isspace() or sign in "_-" or unicodedata.category(sign) == "Cf"


def find_class(names: Sequence[str], name: str) -> int | None:
    """Index of the class that a user means; None where there is none."""
    if name in names:
        return names.index(name)
    keys = [normalize(known) for known in names]
    return keys.index(normalize(name)) if normalize(name) in keys else None


def find_classes(names: Sequence[str], wanted: Iterable[str]) -> list[int]:
    """Indices of the classes that a user means.

    Raises:
        KeyError: a name means none; it is the error's argument.
    """
    found = []
    for name in wanted:
        class_id = find_class(names, name)
        if class_id is None:
            raise KeyError(name)
        found.append(class_id)
    return found


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
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, _, value in pairs}
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
        LabelError: a name occurs twice, is empty, an alias points at no class, or one spelling at two.
    """

    def __init__(self, names: Sequence[str] = MASK_CLASSES, aliases: Mapping[str, str] | None = None) -> None:
        self.names = tuple(names)
        if not self.names or any(not name.strip() for name in self.names):
            raise LabelError(f"class names {list(names)} hold an empty one; give each class a name")
        self._ids: dict[str, int | None] = {}
        self._written: dict[str, str] = {}  # as in _ids, but as a person writes it
        for class_id, name in enumerate(self.names):
            if normalize(name) in self._ids:
                raise LabelError(f"class {name!r} is named twice; give each class its own name")
            self._add(name, class_id)
        own = dict(self._ids)
        for spelling, name in (aliases or {}).items():
            wanted = None if not name else self.id_of(name)
            if own.setdefault(normalize(spelling), wanted) != wanted:
                raise LabelError(f"{spelling!r} is given to two classes; give it to one of them")
            self._add(spelling, wanted)
        for name, spellings in _ALIASES.items():
            if name in self.names:
                for spelling in spellings:
                    if normalize(spelling) not in self._ids:
                        self._add(spelling, self.names.index(name))

    def _add(self, spelling: str, class_id: int | None) -> None:
        self._ids[normalize(spelling)] = class_id
        self._written.setdefault(normalize(spelling), spelling)

    @classmethod
    def parse(cls, text: str | None) -> ClassMap:
        """Reads `--classes`: `"helmet,no_helmet"`, or with spellings `"helmet=hat|Hard Hat,head"`.

        `"=person|dog"` leaves out objects of those names. A backslash before `,`, `=` or `|` makes it part
        of a name. None or an empty text gives the mask classes.

        Raises:
            LabelError: as the class itself.
        """
        if not text or not text.strip():
            return cls()
        names: list[str] = []
        aliases: dict[str, str] = {}
        for part in _split(text, ","):
            written, *spellings = (piece.strip() for piece in _split(part, "=", 1))
            name = _unescaped(written)
            if name:
                names.append(name)
            elif not any(spellings):
                raise LabelError(f"--classes {text!r} holds an empty name; write for example mask,no_mask")
            for piece in _split(spellings[0], "|") if spellings else ():
                spelling = _unescaped(piece.strip())
                if spelling and aliases.setdefault(spelling, name) != name:
                    raise LabelError(f"{spelling!r} is given to two classes; give it to one of them")
        return cls(names, aliases)

    def __str__(self) -> str:
        """The names as `parse` reads them."""
        return ",".join(re.sub(r"([,=|])", r"\\\1", name) for name in self.names)

    def find(self, name: str) -> int | None:
        """Class id of an annotated name; None where it is not known, or is left out on purpose."""
        return self._ids.get(normalize(name))

    def id_of(self, name: str) -> int:
        """Class id of an annotated name.

        Raises:
            LabelError: the name is not known, or is left out on purpose; the message names the nearest one.
        """
        class_id = self.find(name)
        if class_id is None:
            near = self.nearest(name, 0.5)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(self.names)}."
            raise LabelError(
                f"unknown class {name!r}; {hint} Map it with --classes, e.g. {self.names[0]}={name}"
            )
        return class_id

    def ignores(self, name: str) -> bool:
        """True for a spelling that `--classes` leaves out on purpose."""
        return normalize(name) in self._ids and self._ids[normalize(name)] is None

    def nearest(self, name: str, likeness: float) -> str | None:
        """The spelling of a class that is most like a name, difflib's ratio being at least `likeness`."""
        known = [key for key, class_id in self._ids.items() if class_id is not None]
        near = difflib.get_close_matches(normalize(name), known, n=1, cutoff=likeness)
        return self._written[near[0]] if near else None

    def __len__(self) -> int:
        return len(self.names)


def _split(text: str, mark: str, times: int = 0) -> list[str]:
    """Split at a mark that has no backslash before it."""
    return re.split(rf"(?<!\\){re.escape(mark)}", text, maxsplit=times)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,=|])", r"\1", text)

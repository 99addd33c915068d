"""The classes: canonical names, the spellings that annotators use for them, and colours.

Other classes (helmets, gloves) come from `--classes`; the aliases below apply to `MASK_CLASSES` only.
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

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), distinct with any colour vision, in an order
# that gives the mask classes bluish green, vermilion and yellow.
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
"""The class id of a face whose class is not known yet."""


@lru_cache(maxsize=4096)
def normalize(name: str) -> str:
    """The common form of all spellings of a class: `"No Mask"` and `"no-mask"` are both `"nomask"`.

    Ignores case, spaces, `_`, `-` and what cannot be seen: composed or decomposed accents, the width of East
    Asian letters, invisible characters.

    Source: canonical caseless matching of the Unicode Standard, section 3.13, D145.
    """
    text = unicodedata.normalize("NFD", "".join(map(_without_width, name))).casefold()
    kept = "".join(char for char in unicodedata.normalize("NFD", text) if not _is_ignored(char))
    # A name of ignored characters only keeps them: otherwise all such names would be one class.
    return unicodedata.normalize("NFC", kept or text.strip())


def _without_width(char: str) -> str:
    wide = unicodedata.decomposition(char).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", char) if wide else char


def _is_ignored(char: str) -> bool:
    return char.isspace() or char in "_-" or unicodedata.category(char) == "Cf"


def find_class(names: Sequence[str], name: str) -> int | None:
    """Index of the class with this name, in any spelling; None where there is none."""
    if name in names:
        return names.index(name)
    return next((i for i, known in enumerate(names) if normalize(known) == normalize(name)), None)


def find_classes(names: Sequence[str], wanted: Iterable[str]) -> list[int]:
    """Indices of the classes with these names; raises `KeyError` with the first unknown name."""
    found = []
    for name in wanted:
        class_id = find_class(names, name)
        if class_id is None:
            raise KeyError(name)
        found.append(class_id)
    return found


def class_values(
    names: Sequence[str], given: Mapping[str, float], defaults: Iterable[float]
) -> tuple[float, ...]:
    """A number for each class: that of its name in `given`, in any spelling, else its default.

    Raises:
        KeyError: with the first unknown name of `given`.
    """
    by_id = dict(zip(find_classes(names, given), given.values(), strict=True))
    return tuple(by_id.get(class_id, default) for class_id, default in enumerate(defaults))


def color_rgb(class_id: int) -> tuple[int, int, int]:
    """Colour of a class, the same in every picture and plot; grey for `UNDECIDED_ID`."""
    return (160, 160, 160) if class_id == UNDECIDED_ID else PALETTE_RGB[class_id % len(PALETTE_RGB)]


def parse_class_numbers(text: str) -> float | dict[str, float]:
    """`"0.5"` → 0.5 for all classes, `"mask=0.6,no_mask=0.3"` → a dictionary; else raises `ValueError`."""
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise ValueError(
            f"{text!r} is not a number; write 0.5, or mask=0.6,no_mask=0.3 for single classes"
        ) from None


class ClassMap:
    """Maps the class names of annotations to class ids.

    Args:
        names: canonical class names in the order of their ids.
        aliases: spelling → canonical name, besides the built-in spellings of the mask classes. Objects whose
            spelling maps to the empty string are left out.

    Raises:
        LabelError: a name is empty or occurs twice, an alias names no class, or a spelling has two classes.
    """

    def __init__(self, names: Sequence[str] = MASK_CLASSES, aliases: Mapping[str, str] | None = None) -> None:
        self.names = tuple(names)
        if not self.names or any(not name.strip() for name in self.names):
            raise LabelError(f"class names {list(names)} hold an empty one; give each class a name")
        self._ids: dict[str, int | None] = {}
        self._written: dict[str, str] = {}  # key of _ids → the spelling before normalising
        for class_id, name in enumerate(self.names):
            if normalize(name) in self._ids:
                raise LabelError(f"class {name!r} is named twice; give each class its own name")
            self._add(name, class_id)
        given = dict(self._ids)
        for spelling, name in (aliases or {}).items():
            wanted = self.id_of(name) if name else None
            if given.setdefault(normalize(spelling), wanted) != wanted:
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

        `"=person|dog"` leaves out objects of those names. A backslash escapes `,`, `=` and `|`. None or an
        empty text gives the mask classes. Raises as the class itself.
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
        """The names, as `parse` reads them."""
        return ",".join(re.sub(r"([,=|])", r"\\\1", name) for name in self.names)

    def find(self, name: str) -> int | None:
        """Class id of an annotated name; None where it is not known, or is left out on purpose."""
        return self._ids.get(normalize(name))

    def id_of(self, name: str) -> int:
        """Class id of a name in any spelling.

        Raises:
            LabelError: the name is unknown or left out; the message suggests the nearest known one.
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
        """Whether `--classes` leaves out objects of this name."""
        return normalize(name) in self._ids and self._ids[normalize(name)] is None

    def nearest(self, name: str, likeness: float) -> str | None:
        """The most similar known spelling; None where difflib's ratio is below `likeness`."""
        known = [key for key, class_id in self._ids.items() if class_id is not None]
        near = difflib.get_close_matches(normalize(name), known, n=1, cutoff=likeness)
        return self._written[near[0]] if near else None

    def __len__(self) -> int:
        return len(self.names)


def _split(text: str, mark: str, times: int = 0) -> list[str]:
    """Splits at a mark without a backslash before it."""
    return re.split(rf"(?<!\\){re.escape(mark)}", text, maxsplit=times)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([,=|])", r"\1", text)

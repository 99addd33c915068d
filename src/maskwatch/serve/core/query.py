"""What a client asks for beside its picture: model, thresholds, classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import supervision as sv

from maskwatch.detector import only_classes
from maskwatch.labels import find_class, parse_class_numbers
from maskwatch.serve.core.problem import Problem
from maskwatch.serve.core.registry import Model, Shelf


@dataclass(frozen=True)
class Wish:
    """How pictures are looked at.

    Attributes:
        threshold: class name → score above which it counts, of every class.
        class_ids: those that are told.
    """

    model: Model
    threshold: Mapping[str, float]
    class_ids: frozenset[int]

    @classmethod
    def parse(cls, shelf: Shelf, model: str | None, threshold: str | None, classes: str | None) -> Wish:
        """Reads the parameters of a query.

        Raises:
            Problem: 422, a value that cannot be used.
        """
        chosen = shelf.pick(model)
        names = None if classes is None else [name.strip() for name in classes.split(",")]
        return cls.of(chosen, _numbers(threshold), names)

    @classmethod
    def of(cls, model: Model, threshold: Any, classes: Any) -> Wish:
        """From values as JSON has them: a number, an object or null; a list of names or null.

        Raises:
            Problem: 422, a value that cannot be used.
        """
        return cls(model, _thresholds(model, threshold), _class_ids(model, classes))

    def kept(self, detections: sv.Detections) -> sv.Detections:
        """Those of the classes that are told."""
        return only_classes(detections, self.class_ids)


def _numbers(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return parse_class_numbers(text)
    except ValueError as error:
        raise Problem(422, f"threshold {error}") from None


def _thresholds(model: Model, wanted: Any) -> dict[str, float]:
    own = model.detector.thresholds
    if wanted is None:
        return own
    values = wanted if isinstance(wanted, Mapping) else dict.fromkeys(own, wanted)
    chosen = dict(own)
    for name, value in values.items():
        class_id = find_class(list(own), name)
        if class_id is None:
            raise Problem(
                422, f"threshold names class {name!r}, which {model.name} does not have; use {', '.join(own)}"
            )
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value <= 1:
            raise Problem(422, f"threshold of {name} is {value!r}; pass a number from 0 to 1")
        chosen[list(own)[class_id]] = float(value)
    return chosen


def _class_ids(model: Model, names: Any) -> frozenset[int]:
    known = model.detector.class_names
    if names is None:
        return frozenset(range(len(known)))
    if not isinstance(names, list) or not names:
        raise Problem(422, f"classes is {names!r}; pass some of {', '.join(known)}")
    found = [find_class(known, name) if isinstance(name, str) else None for name in names]
    if None in found:
        name = names[found.index(None)]
        raise Problem(422, f"classes: {model.name} has no class {name!r}; use some of {', '.join(known)}")
    return frozenset(class_id for class_id in found if class_id is not None)

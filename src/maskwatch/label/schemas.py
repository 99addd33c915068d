"""The bodies of requests and answers of `/api/label`. Boxes are pixels of the picture as shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

BoxCorners = Annotated[
    list[FiniteFloat], Field(min_length=4, max_length=4, examples=[[411.2, 96.0, 502.7, 210.4]])
]
State = Literal["unlabelled", "labelled", "empty"]
SuspectKind = Literal["missing", "class", "no_face", "box"]
OrderName = Literal["useful", "name"]
Filter = Literal["all", "todo", "done", "suspect"]
Size = Literal["small", "medium", "large"]


class _Body(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


class ClassInfo(_Body):
    """A class: its colour as `#rrggbb`, and the key that chooses it, null beyond the tenth."""

    name: str
    color: str = Field(examples=["#009e73"])
    key: str | None = Field(examples=["1"])


class ModelInfo(_Body):
    """The model whose proposals are shown."""

    name: str
    classes: list[str]


class Counts(_Body):
    """Pictures of each kind; a duplicate is a picture that resembles an earlier one.

    A picture is done if it has labels, or nothing to find, and no proposal is left to decide; else to do.
    """

    pictures: int
    done: int
    todo: int
    suspects: int
    duplicates: int


class Filters(_Body):
    """What the list can be filtered by."""

    splits: list[str]
    classes: list[str]
    sizes: list[Size]


class Project(_Body):
    """The answer of `GET project`."""

    folder: str
    format: Literal["voc", "coco", "yolo"]
    classes: list[ClassInfo]
    model: ModelInfo | None
    version: str
    counts: Counts
    per_class: dict[str, int]
    boxes_per_hour: float | None
    orders: list[OrderName]
    filters: Filters
    marks_ignored: bool = Field(description="False: the format cannot mark difficult boxes or crowds.")
    decisions: Literal["annotations", "corrections"] | None = Field(
        description="Where decisions about suspects go; null: nothing can be written."
    )
    read_only_reason: str | None


class PictureRow(_Body):
    """A picture in the list. `uncertainty` is null until the model has seen it."""

    image_id: str
    width: int
    height: int
    state: State
    boxes: int
    undecided: int = Field(description="Proposals left to decide in a picture that has labels.")
    suspects: int
    uncertainty: float | None
    duplicate_of: str | None
    split: str | None


class PictureList(_Body):
    """The answer of `GET pictures`."""

    pictures: list[PictureRow]


class ShownBox(_Body):
    """A labelled box. `ignore` is true for a difficult box and for a crowd."""

    id: str
    box_xyxy: BoxCorners
    class_: str = Field(alias="class")
    difficult: bool
    ignore: bool
    iscrowd: bool


class Proposal(_Body):
    """A box that the model proposes; `score` is null where a file that holds proposals has none."""

    box_xyxy: BoxCorners
    class_: str = Field(alias="class", max_length=500)
    score: FiniteFloat | None


class ShownSuspect(_Body):
    """A label that the model contradicts: class of the label and of the model's answer, null for none."""

    id: str
    kind: SuspectKind
    box_xyxy: BoxCorners
    label: str | None
    answer: str | None
    score: float | None


class Saved(_Body):
    """The answer of `PUT` and `POST`: the picture as it is on disk now."""

    revision: str
    state: State
    undecided: int = Field(description="Proposals left to decide; the picture is not done before.")
    boxes: list[ShownBox]


class ShownPicture(Saved):
    """The answer of `GET pictures/…`, and `current` of a conflict."""

    image_id: str
    width: int
    height: int
    proposals: list[Proposal] | None = Field(description="null: the model has not seen the picture yet.")
    refused: list[Proposal] = Field(description="Proposals that were refused; they do not come again.")
    suspects: list[ShownSuspect]
    note: str | None


class SentBox(_Body):
    """A box to save; `id` is that of the box before, null for a new one."""

    id: str | None = Field(None, max_length=100)
    box_xyxy: BoxCorners
    class_: str = Field(alias="class", min_length=1, max_length=500)
    difficult: bool = False
    ignore: bool = False


class SentPicture(_Body):
    """The body of `PUT`. `empty`: looked at, nothing to find; without `undecided`, the picture is done."""

    boxes: list[SentBox] = Field(max_length=10_000)
    empty: bool = False
    undecided: list[Proposal] = Field([], max_length=10_000)
    refused: list[Proposal] = Field([], max_length=10_000)


class Decision(_Body):
    """The body of `POST suspects/…`: which of the two is right, and why."""

    decision: Literal["label", "answer"]
    reason: str | None = Field(None, max_length=500)

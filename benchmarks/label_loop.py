"""What the loop of labels gives back: 200 pictures with a fifth of their labels spoilt on purpose.

    python benchmarks/label_loop.py --start WEIGHTS

Spoils labels of pictures (wrong class, box left out, box shifted, box on nothing), trains on them, lists the
suspects of `evaluate --suspects`, and compares them with the clean labels: how many suspects are right, and
how many spoilt labels they find. Then it trains from the same start on the spoilt labels, on those after the
suspects' corrections (only the right ones, as a person would accept them, and all of them), and on the clean
labels, and measures each on other pictures. Start from weights that have not seen these pictures: those of
COCO. `maskwatch-320` was trained on them with their clean labels, so its suspects are better than it would
find in labels of your own. Nothing is chosen: the last weights are measured. A repeated command resumes an
interrupted run.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from command import head, parser_of, row, run

from maskwatch import Detector
from maskwatch.boxes import box_iou
from maskwatch.cli.progress import progress_bar
from maskwatch.data import DetectionSet, Sample, correct, read_corrections, read_data
from maskwatch.evaluation import predict
from maskwatch.evaluation.intervals import Bootstrap
from maskwatch.evaluation.matching import match_set
from maskwatch.evaluation.report import ReportOptions, TunableModel, build_report
from maskwatch.evaluation.suspects import BOX_OF_DETECTION, Suspect, suspects, write_suspects
from maskwatch.training.checkpoint import load_checkpoint
from maskwatch.training.recipe import Recipe, load_recipe
from maskwatch.training.run import TrainOptions, train
from maskwatch.training.torch_detector import TorchDetector

SHARED = Path("../shared")
KINDS = ("wrong class", "left out", "shifted", "on nothing")
FAULTS = ("class", "missing", "box", "no_face")
SAME = 0.5
"""IoU from which two boxes are of one face."""

DRAWS = 1000
CALIBRATED = "the same, calibrated on them"
TITLES = {
    "right": "spoilt, the right suspects accepted",
    "all": "spoilt, all suspects accepted",
    "clean": "clean",
}

Box = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spoilt:
    """One label that was spoilt.

    picture: index of its sample; clean_xyxy: its box before, None where there was none; spoilt_xyxy: its box
    after, None where it was left out.
    """

    picture: int
    kind: str
    clean_xyxy: Box | None
    spoilt_xyxy: Box | None


# ---- Spoiling --------------------------------------------------------------------------------------------


def spoil(clean: DetectionSet, share: float, seed: int) -> tuple[DetectionSet, list[Spoilt]]:
    """Spoils a share of the labels, an equal number in each of four ways, in random places."""
    rng = np.random.default_rng(seed)
    labels = [(p, g) for p, s in enumerate(clean.samples) for g in np.flatnonzero(~s.ignore)]
    chosen = rng.permutation(len(labels))[: round(share * len(labels))]
    kinds: dict[int, dict[int, str]] = {}
    for number, index in enumerate(chosen):
        picture, label = labels[index]
        kinds.setdefault(picture, {})[int(label)] = KINDS[number % len(KINDS)]
    done: list[Spoilt] = []
    samples = []
    for picture, sample in enumerate(clean.samples):
        classes = len(clean.class_names)
        spoilt, what = _spoil_sample(sample, kinds.get(picture, {}), classes, picture, rng)
        samples.append(spoilt)
        done += what
    return DetectionSet(clean.class_names, tuple(samples)), done


def _spoil_sample(
    sample: Sample, kinds: Mapping[int, str], classes: int, picture: int, rng: np.random.Generator
) -> tuple[Sample, list[Spoilt]]:
    boxes, class_ids = sample.boxes_xyxy.copy(), sample.class_ids.copy()
    kept, done = np.ones(len(boxes), np.bool_), []
    extra: list[tuple[Box, int]] = []
    for label, kind in kinds.items():
        box = sample.boxes_xyxy[label]
        if kind == "wrong class":
            class_ids[label] = (class_ids[label] + rng.integers(1, classes)) % classes
            done.append(Spoilt(picture, kind, box, box))
        elif kind == "left out":
            kept[label] = False
            done.append(Spoilt(picture, kind, box, None))
        elif kind == "shifted":
            boxes[label] = _shifted(box, sample.size_hw, rng)
            done.append(Spoilt(picture, kind, box, boxes[label]))
        elif (free := _free_box(box, sample, rng)) is not None:  # a crowded picture may have no place
            extra.append((free, int(rng.integers(classes))))
            done.append(Spoilt(picture, kind, None, free))
    new = replace(sample, boxes_xyxy=boxes, class_ids=class_ids, notes=()).take(kept)
    if extra:
        new = replace(
            new,
            boxes_xyxy=np.concatenate([new.boxes_xyxy, np.stack([box for box, _ in extra])]),
            class_ids=np.append(new.class_ids, [class_id for _, class_id in extra]),
            difficult=np.append(new.difficult, [False] * len(extra)),
        )
    return new, done


def _shifted(box: Box, size_hw: tuple[int, int], rng: np.random.Generator) -> Box:
    """The box half its size away, in a direction that keeps its centre in the picture; IoU 0.33 or less."""
    x0, y0, x1, y1 = box
    height, width = size_hw
    for _ in range(100):
        angle = rng.uniform(0, 2 * np.pi)
        step = 0.6 * np.array([np.cos(angle) * (x1 - x0), np.sin(angle) * (y1 - y0)])
        moved = (box + np.tile(step, 2)).astype(np.float32)
        centre = (moved[:2] + moved[2:]) / 2
        if 0 < centre[0] < width and 0 < centre[1] < height:
            break
    return np.asarray(moved.clip(0, np.array([width, height] * 2)), np.float32)


def _free_box(box: Box, sample: Sample, rng: np.random.Generator) -> Box | None:
    """A box of the same size elsewhere in the picture that touches no label."""
    size = box[2:] - box[:2]
    height, width = sample.size_hw
    for _ in range(100):
        corner = rng.uniform(0, 1, 2) * (np.array([width, height]) - size)
        free = np.concatenate([corner, corner + size]).astype(np.float32)
        if not box_iou(free[None], sample.boxes_xyxy).any():
            return free
    return None


# ---- Comparing suspects with the clean labels ------------------------------------------------------------


def is_right(suspect: Suspect, clean: Sample, spoilt: Sample, names: Sequence[str]) -> bool:
    """Whether a person who knows the clean labels would accept the suspect."""
    box = np.array(suspect.box_xyxy, np.float32)[None]
    near = box_iou(box, clean.boxes_xyxy)[0] >= SAME  # (G,)
    if suspect.fault == "no_face":
        return not near.any()
    of_class = near & (clean.class_ids == names.index(suspect.class_name))
    if suspect.fault == "class":
        return bool(of_class.any())
    unlabelled = ~(box_iou(clean.boxes_xyxy, spoilt.boxes_xyxy) >= SAME).any(1)
    return bool((of_class & unlabelled).any())


def right_ones(found: Sequence[Suspect], clean: DetectionSet, spoilt: DetectionSet) -> list[Suspect]:
    pairs = list(zip(clean.samples, spoilt.samples, strict=True))
    return [suspect for suspect in found if is_right(suspect, *pairs[suspect.picture], clean.class_names)]


def finds(suspect: Suspect, spoilt: Spoilt) -> bool:
    """Whether the suspect is about this label, where it was or where it should be."""
    if suspect.picture != spoilt.picture:
        return False
    box = spoilt.clean_xyxy if suspect.fault in BOX_OF_DETECTION else spoilt.spoilt_xyxy
    return box is not None and bool(
        box_iou(np.array([suspect.box_xyxy], np.float32), box[None])[0, 0] >= SAME
    )


def suspects_of(
    detector: Detector | TunableModel, data: DetectionSet, *, calibrated: bool = False
) -> list[Suspect]:
    """As `evaluate MODEL DATA --suspects` lists them; calibrated, as with `--tune DATA --calibrate`."""
    options = ReportOptions("model", chosen_on="the same pictures" if calibrated else "")
    report = build_report(
        detector,
        [("pictures", data)],
        options,
        validation=data if calibrated else None,
        calibrate=getattr(detector, "calibrated", None) if calibrated else None,
        progress=progress_bar,
    )
    (part,) = report.sets
    return suspects(data, part.shown, part.outcomes)


def suspect_rows(
    found: Mapping[str, Sequence[Suspect]], clean: DetectionSet, spoilt: DetectionSet, what: Sequence[Spoilt]
) -> Iterator[str]:
    """Markdown: for each model, the suspects and how many are right; then the share of each kind found."""
    yield from head(row("model", "suspects", "right", "precision", *FAULTS))
    rights = {model: right_ones(listed, clean, spoilt) for model, listed in found.items()}
    for model, listed in found.items():
        right = rights[model]
        share = f"{len(right) / len(listed):.2f}" if listed else "-"
        by_fault = [
            f"{sum(s.fault == fault for s in right)} of {sum(s.fault == fault for s in listed)}"
            for fault in FAULTS
        ]
        yield row(model, len(listed), len(right), share, *by_fault)
    yield ""
    yield from head(row("spoilt labels found by", "all", *KINDS))
    for model, right in rights.items():
        cells = [_share(right, what), *(_share(right, [w for w in what if w.kind == k]) for k in KINDS)]
        yield row(model, *cells)


def _share(right: Sequence[Suspect], what: Sequence[Spoilt]) -> str:
    hits = sum(any(finds(suspect, one) for suspect in right) for one in what)
    return f"{hits} of {len(what)}"


# ---- Training --------------------------------------------------------------------------------------------


def trained(
    data: DetectionSet, validation: DetectionSet, recipe: Recipe, start: str, output: Path
) -> tuple[TorchDetector, str]:
    """The last weights of a training, and how long it took in this call, as a cell of the table."""
    last = output / "last.ckpt"
    began, processor = time.monotonic(), _processor_seconds()
    if not (last.exists() and load_checkpoint(last).step >= recipe.steps):
        train(data, validation, recipe, output, TrainOptions(start=start, resume=last.exists()))
    wall, used = (time.monotonic() - began) / 60, (_processor_seconds() - processor) / 60
    return TorchDetector.load(last, class_agnostic=False), f"{wall:.0f} ({used:.0f})"


def _processor_seconds() -> float:
    """Of this process and those that it has waited for, such as the one that prepares batches."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def measure(options: argparse.Namespace) -> Iterator[str]:
    everything, validation = (read_data(options.data / split) for split in ("train", "val"))
    chosen = np.random.default_rng(options.seed).permutation(len(everything))[: options.pictures]
    clean = everything.subset(sorted(chosen.tolist()))
    spoilt, what = spoil(clean, options.share, options.seed)
    labels = sum(clean.class_counts().values())
    yield f"{len(clean)} pictures, {labels} labels, {len(what)} spoilt\n"
    settings = [f"size={options.size}", f"train_sizes=[{options.size}]", f"steps={options.steps}"]
    settings += [f"validate_every={options.steps}", "batch_size=16", "warmup_steps=50"]
    recipe = load_recipe(options.recipe, settings)
    model, minutes = trained(spoilt, validation, recipe, options.start, options.out / "spoilt")
    found = {
        "trained on the spoilt labels": suspects_of(model, spoilt),
        CALIBRATED: suspects_of(model, spoilt, calibrated=True),
        options.other: suspects_of(Detector(options.other, threshold=0.0, class_agnostic=False), spoilt),
    }
    yield from suspect_rows(found, clean, spoilt, what)
    yield ""
    yield from head(row("labels", "AP", "AP50", "AP more than on spoilt labels", "minutes (of processor)"))
    first = bootstrap(model, validation)
    yield scores("spoilt", first, first, minutes)
    listed = found[CALIBRATED]
    right = right_ones(listed, clean, spoilt)
    for name, data in (
        ("right", corrected(spoilt, right, options.out / "right.csv")),
        ("all", corrected(spoilt, listed, options.out / "all.csv")),
        ("clean", clean),
    ):
        model, minutes = trained(data, validation, recipe, options.start, options.out / name)
        yield scores(TITLES[name], bootstrap(model, validation), first, minutes)


def corrected(spoilt: DetectionSet, accepted: Sequence[Suspect], file: Path) -> DetectionSet:
    """The labels after the corrections that the suspects propose, through the file that a person edits."""
    file.unlink(missing_ok=True)
    write_suspects(spoilt, accepted, file, force=True)
    return correct(spoilt, read_corrections(file))


def bootstrap(model: TorchDetector, validation: DetectionSet) -> Bootstrap:
    return Bootstrap.of(match_set(validation, predict(model, validation)), DRAWS)


def scores(name: str, one: Bootstrap, first: Bootstrap, minutes: str) -> str:
    more = one.against(first)["AP"]
    gain = f"{more.first - more.second:+.3f} ({more.interval.low:+.3f} to {more.interval.high:+.3f})"
    return row(name, f"{one.whole['AP']:.3f}", f"{one.whole['AP50']:.3f}", gain, minutes)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "masks", help="with train/ and val/")
    parser.add_argument("--start", required=True, help="zoo checkpoint of the COCO start")
    parser.add_argument("--out", type=Path, default=Path("runs/label_loop"), help="folder of the runs")
    parser.add_argument("--other", default="maskwatch-320", help="a second model that lists suspects")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.2, help="of the labels that are spoilt")
    parser.add_argument("--seed", type=int, default=1)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())

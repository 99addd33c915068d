"""The situation of the original project: 168 pictures to train on, 40 to test on, its recipe against ours.

    python benchmarks/small_data.py --start WEIGHTS

Both recipes train the same network at the same size from the same COCO start on the same pictures, and are
measured on the last weights, so that nothing is chosen. Output is a Markdown table: mean over the seeds, and
where there are several the least and the greatest. A repeated command resumes an interrupted run, and only
measures a finished one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from command import head, parser_of, row, run

from maskwatch.cli.datasets import read_stems
from maskwatch.data import DetectionSet, read_data
from maskwatch.evaluation import coco_evaluate, predict
from maskwatch.training.checkpoint import load_checkpoint
from maskwatch.training.recipe import Recipe, load_recipe
from maskwatch.training.run import TrainOptions, train
from maskwatch.training.torch_detector import TorchDetector

SHARED = Path("../shared")
SCORES = ("AP", "AP50", "AP75", "AR100")


@dataclass(frozen=True)
class Entry:
    """One recipe, as it is run here."""

    recipe: Recipe
    images: int
    """Pictures that all its batches hold together."""


def entry(name: str, size: int, steps: int, batch_size: int | None, seed: int) -> Entry:
    """A built-in recipe at a fixed size and length; validated once, at the end."""
    settings = [f"size={size}", f"train_sizes=[{size}]", f"steps={steps}", f"validate_every={steps}"]
    settings += [f"seed={seed}", "precision=auto"]
    if batch_size is not None:
        settings.append(f"batch_size={batch_size}")
    recipe = load_recipe(name, settings)
    return Entry(recipe, recipe.batch_size * steps)


def scores(
    entry: Entry, training: DetectionSet, test: DetectionSet, start: str, output: Path
) -> tuple[dict[str, float], float]:
    """The numbers of the last weights on the test pictures, and the minutes of training in this call."""
    last = output / "last.ckpt"
    began = time.monotonic()
    if not (last.exists() and load_checkpoint(last).step >= entry.recipe.steps):
        train(training, test, entry.recipe, output, TrainOptions(start=start, resume=last.exists()))
    minutes = (time.monotonic() - began) / 60
    detector = TorchDetector.load(last, class_agnostic=False)  # as `maskwatch evaluate` measures
    stats = coco_evaluate(test, predict(detector, test)).stats
    return {name: stats[name] for name in SCORES}, minutes


def table(rows: Mapping[str, Sequence[Mapping[str, float]]], images: Mapping[str, int]) -> Iterator[str]:
    """Markdown: one line a recipe, then how many times the first one's AP the last one's is."""
    yield from head(row("recipe", "seeds", "images seen", *SCORES))
    for name, results in rows.items():
        cells = [_spread([result[score] for result in results]) for score in SCORES]
        yield row(f"`{name}`", len(results), images[name], *cells)
    first, *_, last = (fmean(result["AP"] for result in results) for results in rows.values())
    if first > 0:
        yield f"\nAP of `{list(rows)[-1]}` is {last / first:.2f} times that of `{next(iter(rows))}`."


def _spread(values: Sequence[float]) -> str:
    mean = f"{fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def measure(options: argparse.Namespace) -> Iterator[str]:
    lengths = {"seed": (options.seed_steps, None), "default": (options.default_steps, options.default_batch)}
    train_stems, test_stems = (read_stems(options.data / f"small_{part}.txt") for part in ("train", "test"))
    training = read_data(options.data / "train", image_ids=train_stems)
    test = read_data(options.data / "test", image_ids=test_stems)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in lengths}
    images = {}
    for seed in options.seeds:
        for name, (steps, batch_size) in lengths.items():
            one = entry(name, options.size, steps, batch_size, seed)
            output = options.out / f"{name}-{options.size}-{seed}"
            result, minutes = scores(one, training, test, options.start, output)
            images[name] = one.images
            rows[name].append(result)
            progress = f"{output.name}: AP {result['AP']:.3f}, {minutes:.1f} minutes"
            print(progress, file=sys.stderr, flush=True)
    yield from table(rows, images)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "masks", help="with train/ and test/")
    parser.add_argument("--start", required=True, help="zoo checkpoint of the COCO start")
    parser.add_argument("--out", type=Path, default=Path("runs/small"), help="folder of the runs")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--seed-steps", type=int, default=8000, help="steps of `seed`")
    parser.add_argument("--default-steps", type=int, default=1600, help="steps of `default`")
    parser.add_argument("--default-batch", type=int, default=16)
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())

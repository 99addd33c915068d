"""What a training step costs, part by part, beside the same step with torch's own layers and memory.

    OMP_NUM_THREADS=1 python benchmarks/training_speed.py ../shared/data/masks/train ../shared/data/more/train
    python benchmarks/training_speed.py photos/ --recipe fast --rounds 5

Both ways take turns in one process, with the same batches. The seconds are those of the CPU, of all threads,
so that other work on the machine changes them little; with several threads they contain the waiting of one
for another. The last line has the elapsed time.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from command import head, parser_of, row, run

from maskwatch.data import read_data
from maskwatch.system import keep_freed_memory

WAYS = "torch", "maskwatch"
PARTS = "crops", "forward", "matching", "loss", "backward", "optimiser", "averaging"
# Where glibc's own adaptation of its limits (M_MMAP_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD) ends.
GLIBC_LIMITS = (-4, 65536), (-1, 64 << 20), (-3, 32 << 20)


def choose(way: str) -> None:
    """Makes the process compute in one of `WAYS`."""
    import torch.nn.functional as F

    from maskwatch.network import layers, ssd

    if way == "maskwatch":
        layers._is_slow_backwards, layers.relu6, ssd.relu6 = OWN
        keep_freed_memory()
        return
    layers._is_slow_backwards = lambda conv, input: False
    layers.relu6 = ssd.relu6 = F.relu6
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for limit in GLIBC_LIMITS:
            libc.mallopt(*limit)
        libc.malloc_trim(0)


class Steps:
    """Training steps with a clock for each part, without Lightning."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from torch.optim.swa_utils import AveragedModel

        from maskwatch.training.batches import StepSampler, TrainingDataset, balanced_order
        from maskwatch.training.module import DetectionModule
        from maskwatch.training.recipe import load_recipe
        from maskwatch.training.start import start_network
        from maskwatch.training.trainer import _ema

        recipe = load_recipe(options.recipe, options.settings)
        detection_set = read_data(options.data)
        network = start_network(options.start, recipe, detection_set.class_names)
        network.to(memory_format=torch.channels_last)
        self.module = DetectionModule(network, recipe, detection_set)
        self.module._freeze(self.module._bn_updates)
        self.module.train()
        self.optimizer: Any = self.module.configure_optimizers()["optimizer"]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0  # all steps compute with the same weights
        self.average = AveragedModel(network, avg_fn=partial(_ema, recipe.ema_decay))
        self.dataset = TrainingDataset(detection_set, recipe)
        order = balanced_order(detection_set, recipe.class_balance, recipe.seed)
        self.keys = StepSampler(order, recipe).keys
        self.clip = recipe.clip_norm

    def take(self, step: int) -> tuple[int, dict[str, float]]:
        """Crops of the batch, and CPU seconds of each part."""
        import torch

        from maskwatch.network import preprocess
        from maskwatch.training.batches import collate

        clocks = [time.process_time()]
        batch = collate([self.dataset[key] for key in self.keys(step)])
        clocks.append(time.process_time())
        module, size_hw = self.module, (batch.images.shape[1], batch.images.shape[2])
        with torch.autocast("cpu", torch.bfloat16):
            images = preprocess(batch.images).contiguous(memory_format=torch.channels_last)
            encodings, logits = module.network(images)
            clocks.append(time.process_time())
            anchors = module.network.anchors_xyxy(size_hw)
            targets = module._targets(batch, anchors, size_hw)
            clocks.append(time.process_time())
            losses = module.loss(encodings.float(), logits.float(), anchors, targets)
            clocks.append(time.process_time())
        self.optimizer.zero_grad()
        (losses.localization + losses.classification).backward()
        clocks.append(time.process_time())
        if self.clip:
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.clip)
        self.optimizer.step()
        clocks.append(time.process_time())
        self.average.update_parameters(module.network)
        clocks.append(time.process_time())
        seconds = (end - start for start, end in pairwise(clocks))
        return len(batch.images), dict(zip(PARTS, seconds, strict=True))


def measure(options: argparse.Namespace) -> Iterator[str]:
    """Prints seconds per 1000 crops, the median of the rounds."""
    steps = Steps(options)
    cycle = len(steps.module.recipe.train_sizes)
    rounds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(options.rounds + 1):
        for way in WAYS:
            choose(way)
            steps.take(0)  # touches the memory that the other way has given back
            start, crops, sums = time.perf_counter(), 0, dict.fromkeys(PARTS, 0.0)
            for step in range(cycle):  # the pictures of later rounds come from the cache in memory
                count, seconds = steps.take(step)
                crops += count
                sums = {part: sums[part] + seconds[part] for part in PARTS}
            if number:  # the first round compiles
                sums |= {"sum": sum(sums.values()), "elapsed": time.perf_counter() - start}
                for part, value in sums.items():
                    rounds[way, part].append(1000 * value / crops)
    yield from head(row("CPU seconds per 1000 crops", *WAYS, "ratio"))
    for part in (*PARTS, "sum", "elapsed"):
        before, after = (median(rounds[way, part]) for way in WAYS)
        yield row(part, f"{before:.1f}", f"{after:.1f}", f"{after / max(before, 1e-9):.2f}")


def own_layers() -> tuple[Any, Any, Any]:
    from maskwatch.network import layers, ssd

    return layers._is_slow_backwards, layers.relu6, ssd.relu6


OWN = own_layers()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="data sets to train on")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--start", default="maskwatch-640", help="model or checkpoint; default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    return run(measure, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""How a training shows that it is alive: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

PLAIN_EVERY = 50


def progress_callback() -> Callback:
    """A bar where standard error is a terminal, else a line every `PLAIN_EVERY` steps."""
    return Bar(refresh_rate=5) if sys.stderr.isatty() else PlainProgress()


class Bar(TQDMProgressBar):
    """Lightning's bar without the number of the logger's folder."""

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        items = super().get_metrics(trainer, module)
        items.pop("v_num", None)
        return dict(items)


class PlainProgress(Callback):
    """One line on standard error for every fifty steps and every validation."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        if self._since is None:
            self._since = time.monotonic(), trainer.global_step
        elif trainer.global_step % PLAIN_EVERY == 0 or trainer.global_step == trainer.max_steps:
            began, first = self._since
            seconds = (time.monotonic() - began) / max(trainer.global_step - first, 1)
            self._since = time.monotonic(), trainer.global_step
            losses = ", ".join(
                f"{name.removeprefix('Loss/').removesuffix('_loss')} {float(value):.3f}"
                for name, value in trainer.callback_metrics.items()
                if name.startswith("Loss/")
            )
            _line(f"step {trainer.global_step}/{trainer.max_steps}: {losses} ({seconds:.2f} s a step)")

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        result = getattr(module, "last_result", None)
        if result is not None:
            _line(f"step {trainer.global_step}: AP {result.stats['AP']:.3f}, AP50 {result.stats['AP50']:.3f}")
        self._since = None


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

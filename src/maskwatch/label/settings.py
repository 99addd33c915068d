"""The settings of `maskwatch label`, validated."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maskwatch.errors import OptionError
from maskwatch.labels import ClassMap
from maskwatch.serve.settings import MIN_TOKEN, ServiceLimits


@dataclass(frozen=True)
class LabelSettings:
    """Settings of a labelling server.

    Attributes:
        folder: whose pictures are labelled.
        classes: None for the mask classes, or those that the labels have.
        model: that proposes boxes; None for the embedded one, if it knows the classes.
        min_score: of a proposal; None for the thresholds of the model.
        suspects: file of labels to look at, or a report that holds it; None finds them with the model.
        corrections: file that decisions are added to; None changes the annotations.
        by: who decides about suspects, kept with each decision; None keeps no name.
        host, port: where it listens; port 0 takes a free one.
        token: that the page must send.
        limits: of the connections.

    Raises:
        OptionError: a value that cannot be used.
    """

    folder: Path
    token: str = field(repr=False)
    classes: ClassMap | None = None
    model: str | None = None
    min_score: float | None = None
    suspects: Path | None = None
    corrections: Path | None = None
    by: str | None = None
    host: str = "127.0.0.1"
    port: int = 8766
    limits: ServiceLimits = field(default_factory=lambda: ServiceLimits(max_bytes=1 << 20))

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise OptionError(f"--port {self.port}: pass a number from 0 to 65535")
        if len(self.token) < MIN_TOKEN or not self.token.isascii() or not self.token.isprintable():
            raise OptionError(f"MASKWATCH_TOKEN: make it {MIN_TOKEN} letters and digits or more")

"""`maskwatch models`: which models come with the package, or what is in model files."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Names or files of models. Default: those of the package."),
    ] = None,
) -> None:
    """List models and what they run on: name, size, thresholds, file."""
    from maskwatch.models import embedded_models, load_model_file
    from maskwatch.runtimes.choice import RuntimeSettings, chosen_backend, first_installed

    rows = [("name", "size", "precision", "classes and thresholds", "file")]
    notes = []
    for model in files or embedded_models():
        file = load_model_file(model)
        about = file.metadata
        pairs = zip(about.classes, about.thresholds, strict=True)
        thresholds = ", ".join(f"{label} {threshold:.2f}" for label, threshold in pairs)
        height, width = about.input_size
        rows.append((about.name, f"{width}x{height}", about.precision, thresholds, str(file.path)))
        if about.is_int8:
            notes.append(f"{file.path}: ranges of values from {about.quantised_on}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(*notes, f"they run on: {first_installed(RuntimeSettings())}", sep="\n")
    if stored := chosen_backend():
        print(f"stored by maskwatch bench --write: {stored}")

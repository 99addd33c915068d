"""`maskwatch models`: which models come with the package."""

from __future__ import annotations


def models() -> None:
    """List the models inside the package: name, size, thresholds by class, file, and what they run on."""
    from maskwatch.models import embedded_models, load_model_file
    from maskwatch.runtimes.choice import RuntimeSettings, chosen_backend, first_installed

    rows = [("name", "size", "classes and thresholds", "file")]
    for name in embedded_models():
        file = load_model_file(name)
        about = file.metadata
        pairs = zip(about.classes, about.thresholds, strict=True)
        thresholds = ", ".join(f"{label} {threshold:.2f}" for label, threshold in pairs)
        height, width = about.input_size
        rows.append((name, f"{width}x{height}", thresholds, str(file.path)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"they run on: {first_installed(RuntimeSettings())}")
    if stored := chosen_backend():
        print(f"stored by maskwatch bench --write: {stored}")

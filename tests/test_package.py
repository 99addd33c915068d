"""What `import maskwatch` gives, and what it does not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import maskwatch

HEAVY = (
    "torch",
    "tensorflow",
    "supervision",
    "cv2",
    "onnxruntime",
    "numpy",
    "PIL",
    "matplotlib",
    "rich",
    "typer",
)


def python(code: str, **environment: str) -> str:
    source = Path(maskwatch.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(source), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_public_names() -> None:
    assert sorted(maskwatch.__all__) == [
        "Detector",
        "MaskwatchError",
        "__version__",
        "draw",
        "embedded_models",
        "load_model_file",
        "read_image",
        "to_records",
    ]
    assert all(getattr(maskwatch, name) is not None for name in maskwatch.__all__)
    assert set(maskwatch.__all__) <= set(dir(maskwatch))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'maskwatch' has no attribute 'Detektor'"):
        maskwatch.Detektor  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, maskwatch; print(*sys.modules)").split()
    assert "maskwatch.errors" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_command_line_starts_without_the_heavy_ones() -> None:
    loaded = python("import sys, maskwatch.cli.app; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "tensorflow", "supervision", "cv2"}


def test_import_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import maskwatch; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.3


def test_detecting_leaves_no_trace_of_onnxruntime_telemetry(tmp_path: Path, tiny_model: Path) -> None:
    code = (
        "import numpy as np; from maskwatch.runtimes import OnnxRuntime;"
        f"OnnxRuntime({str(tiny_model)!r}, 1)(np.zeros((1, 64, 64, 3), np.uint8)); print('ran')"
    )
    # Without CI in the environment, where it is off anyway; an empty value is as good as none.
    out = python(code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), CI="")
    assert out.strip() == "ran"
    assert [str(path) for path in tmp_path.rglob("*onnxruntime*")] == []


def test_telemetry_switch_of_the_user_is_kept() -> None:
    code = "import os, maskwatch; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert python(code, ORT_DISABLE_TELEMETRY="0").strip() == "0"

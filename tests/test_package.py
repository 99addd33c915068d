"""What `import maskwatch` gives, and what it does not load."""

from __future__ import annotations

import importlib
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


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(maskwatch.__file__).parents[1]), **more}


def python(code: str, cwd: Path | None = None, **more: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=environment(**more), cwd=cwd, capture_output=True, text=True, check=True
    )
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


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("blur", "drawing.blur", "blur"),
        ("images", "media.images", "read_image"),
        ("render", "drawing.annotate", "save_picture"),
        ("videos", "media.videos", "video_writer"),
    ],
)
def test_documented_modules_keep_their_old_names(old: str, new: str, name: str) -> None:
    sys.modules.pop(f"maskwatch.{old}", None)
    with pytest.warns(
        DeprecationWarning, match=f"maskwatch.{old} is now maskwatch.{new}; import that"
    ) as seen:
        module = importlib.import_module(f"maskwatch.{old}")
    assert getattr(module, name) is getattr(importlib.import_module(f"maskwatch.{new}"), name)
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018
    assert seen[0].filename.endswith(("test_package.py", "importlib/__init__.py"))


def test_the_warning_of_a_moved_module_names_the_line_that_imports_it() -> None:
    code = "import warnings; warnings.simplefilter('error'); from maskwatch.blur import blur"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert 'File "<string>", line 1, in <module>' in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "DeprecationWarning: maskwatch.blur is now maskwatch.drawing"
    )


def test_import_loads_nothing_heavy() -> None:
    loaded = python("import sys, maskwatch; print(*sys.modules)").split()
    assert "maskwatch.errors" in loaded
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_command_line_starts_without_the_heavy_ones() -> None:
    loaded = python("import sys, maskwatch.cli.app; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "tensorflow", "supervision", "cv2"}


def test_detecting_in_a_picture_loads_only_what_it_needs(tiny_model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from PIL import Image; Image.new('RGB', (64, 48)).save('a.jpg')\n"
        "from maskwatch.cli.app import main\n"
        f"try: main(['detect', 'a.jpg', '--json', 'a.json', '--model', {str(tiny_model)!r}])\n"
        "except SystemExit as end: print(end.code, *sys.modules)"
    )
    loaded = python(code, MASKWATCH_RUNTIME="onnxruntime", cwd=tmp_path).splitlines()[-1].split()
    assert loaded[0] == "0"
    needless = {
        "asyncio",
        "av",
        "http",
        "matplotlib",
        "openvino",
        "requests",
        "scipy",
        "ssl",
        "supervision",
        "torch",
    }
    assert not {name.partition(".")[0] for name in loaded} & needless


def test_import_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import maskwatch; print(time.perf_counter() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.3


def test_detecting_leaves_no_trace_of_onnxruntime_telemetry(tmp_path: Path, tiny_model: Path) -> None:
    code = (
        "import numpy as np; from maskwatch.runtimes.onnx_runtime import OnnxRuntime;"
        f"OnnxRuntime({str(tiny_model)!r}, 1)(np.zeros((1, 64, 64, 3), np.uint8)); print('ran')"
    )
    # Without CI in the environment, where it is off anyway; an empty value is as good as none.
    out = python(code, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), CI="")
    assert out.strip() == "ran"
    assert [str(path) for path in tmp_path.rglob("*onnxruntime*")] == []


def test_telemetry_switch_of_the_user_is_kept() -> None:
    code = "import os, maskwatch; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert python(code, ORT_DISABLE_TELEMETRY="0").strip() == "0"

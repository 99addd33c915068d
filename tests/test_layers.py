"""Layers import one way, and the base install's modules need no extra. See docs/design.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "maskwatch"

# Each may import those above it, and itself. `training` measures itself with `evaluation`; the command line
# is the last, since nothing imports it.
LAYERS = (
    "_version",
    "errors",
    "system",
    "text",
    "boxes",
    "labels",
    "outputs",
    "lock",
    "net",
    "media",
    "models",
    "runtimes",
    "detector",
    "drawing",
    "records",
    "hard_cases",
    "bench",
    "client",
    "live",
    "serve",
    "html",
    "tf_compat",
    "data",
    "network",
    "evaluation",
    "label",
    "training",
    "diagnosis",
    "export",
    "improve",
    "cluster",
    "cli",
    "__main__",
)
# Inside a package: each imports from those before it. What is not named comes last: it joins the others.
INSIDE = {
    "runtimes": ("base", "session_cache", "onnx_runtime", "openvino", "kserve", "stored_choice", "choice"),
    "serve": (
        "settings",
        "core",
        "live_state",
        "watcher",
        "api",
        "middleware",
        "app",
        "server",
        "supervisor",
    ),
    "live": (
        "events",
        "timing",
        "capture",
        "tracking",
        "sinks",
        "output",
        "config",
        "model_choice",
        "loop",
        "run",
    ),
    "data": ("issues", "names", "dataset", "formats", "validator", "remote", "read", "quality"),
    "label": (
        *("errors", "annotation", "project", "voc_editor", "yolo_editor", "coco_editor", "jsonl"),
        *("marks", "reviews", "originals", "store", "background", "proposals", "duplicates", "suspects"),
        *("prelabel", "settings", "changes", "pace", "session", "listing", "images", "schemas", "api"),
        *("middleware", "server"),
    ),
    "tf_compat": ("textproto", "label_map", "pipeline_fields", "pipeline", "tensorflow", "zoo"),
    "network": ("layers", "anchors", "ssd", "boxes", "matching", "loss", "postprocess", "two_scales"),
    "training": (
        *("recipe", "checkpoint", "torch_detector", "crops", "copy_paste", "augment", "batches"),
        *("processes", "module", "tensorboard", "trainer", "start", "run"),
    ),
    "export": ("photographs", "compare", "nms_graph", "verify", "onnx"),
    "improve": ("held_out", "decision", "current", "rounds"),
    "cluster": ("session", "storage", "rows", "work", "worker", "sink", "detection"),
}
BASE_LAYERS = (*LAYERS[: LAYERS.index("client")], "cli", "__main__")

# Not part of the base install.
HEAVY = {
    "alembic",
    "fastapi",
    "fsspec",
    "jinja2",
    "lightning",
    "openvino",
    "onnx",
    "onnxscript",
    "paho",
    "pillow_heif",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "pycocotools",
    "ray",
    "safetensors",
    "sqlalchemy",
    "starlette",
    "tensorboard",
    "tensorflow",
    "torch",
    "torchvision",
    "trackers",
    "uvicorn",
    "websockets",
}


def module_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(nodes: Iterator[ast.AST]) -> Iterator[tuple[int, str]]:
    """Line and full name of what the import statements among `nodes` bring in; relative ones are not used."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the whole module name in an import"
            yield node.lineno, str(node.module)
            if node.module == "maskwatch":
                yield from ((node.lineno, f"maskwatch.{alias.name}") for alias in node.names)


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not the bodies of functions, not TYPE_CHECKING blocks."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from run_at_import(child)


def test_every_module_is_in_a_layer() -> None:
    assert {layer_of(path) for path in module_files()} <= set(LAYERS)


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_up(path: Path) -> None:
    mine = LAYERS.index(layer_of(path))
    wrong = []
    for line, name in imported_names(ast.walk(ast.parse(path.read_text("utf-8")))):
        parts = name.split(".")
        # Public names (`from maskwatch import Detector`) are for users; here the home module is named.
        if parts[0] == "maskwatch" and len(parts) > 1 and parts[1] != "__version__":
            if parts[1] not in LAYERS:
                wrong.append(f"line {line}: {name} (name its own module)")
            elif LAYERS.index(parts[1]) > mine:
                wrong.append(f"line {line}: {name}")
    assert not wrong, f"{layer_of(path)} may import from {LAYERS[: mine + 1]} only"


def name_of(path: Path) -> str:
    """Dotted name below `maskwatch`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Module → modules of ours that it imports anywhere, also inside functions and TYPE_CHECKING blocks."""
    modules = {name_of(path): path for path in module_files()}
    graph = {}
    for name, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "maskwatch":
                module = str(node.module).partition(".")[2]
                below = {f"{module}.{alias.name}".lstrip(".") for alias in node.names} & modules.keys()
                found |= below or {module}
        graph[name] = (found & modules.keys()) - {name}
    return graph


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, in order; empty when there is none."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return trail[trail.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if circle := visit(other, [*trail, name]):
                return circle
        done.add(name)
        return []

    for name in sorted(graph):
        if circle := visit(name, []):
            return circle
    return []


def test_no_module_imports_itself_through_others() -> None:
    assert circle_in(import_graph()) == []


def test_a_circle_is_found() -> None:
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


@pytest.mark.parametrize("package", INSIDE)
def test_packages_have_an_order_inside(package: str) -> None:
    order = INSIDE[package]

    def place(name: str) -> int:
        child = name.split(".")[1] if "." in name else ""
        return order.index(child) if child in order else len(order)

    wrong = [
        f"{name} imports {other}"
        for name, others in import_graph().items()
        for other in others
        if name.split(".")[0] == package == other.split(".")[0] and place(other) > place(name)
    ]
    assert not wrong, f"inside {package}: {order}, then the rest"


@pytest.mark.parametrize(
    "path",
    [path for path in module_files() if layer_of(path) in BASE_LAYERS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_base_modules_import_no_extra(path: Path) -> None:
    names = imported_names(run_at_import(ast.parse(path.read_text("utf-8"))))
    assert not [f"line {line}: {name}" for line, name in names if name.split(".")[0] in HEAVY]


def loaded_by(layers: Iterable[str]) -> set[str]:
    """What importing every module of these layers loads that is not part of the base install."""
    files = (path for path in module_files() if layer_of(path) in layers)
    names = [".".join(("maskwatch", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in files]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name.removesuffix(".__init__"))
print(*sorted({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_base_modules_load_no_extra() -> None:
    """Not through another package either."""
    assert loaded_by(BASE_LAYERS) == set()


def test_labelling_loads_the_extra_serve_only() -> None:
    assert loaded_by(["label"]) <= {"fastapi", "prometheus_client", "starlette", "uvicorn", "websockets"}

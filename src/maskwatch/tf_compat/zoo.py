"""Checkpoints of the TF2 Detection Model Zoo, read into plain arrays under the names of our network.

A checkpoint is read once with TensorFlow's own reader (the `tf` extra) and kept as safetensors in the cache
folder under the hash of its content, so that later runs need no TensorFlow.
`maskwatch.training.start` puts the arrays into a network.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from maskwatch.errors import CheckpointError, SourceError
from maskwatch.net.addresses import Address, is_address
from maskwatch.net.archives import ArchiveLimits, unpack
from maskwatch.net.resume import fetch_file
from maskwatch.system import cache_folder
from maskwatch.tf_compat.tensorflow import load_tensorflow

State: TypeAlias = dict[str, npt.NDArray[np.generic]]
"""Weights by name, laid out as torch has them."""

# Of ssd_mobilenet_v2_fpnlite: convolutions in the tower of the predictor, levels of the pyramid.
_TOWER_DEPTH = 4
_LEVELS = 5
# The largest archive of the zoo has under a gigabyte.
_ARCHIVE_BYTES = 1 << 30
_LIMITS = ArchiveLimits(total_bytes=4 << 30, files=10_000)
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_BACKBONE = "model/_feature_extractor/classification_backbone/layer_with_weights-{}"
_FPN = "model/_feature_extractor/_fpn_features_generator"
_COARSE = "model/_feature_extractor/_coarse_feature_layers"
_PREDICTOR = "model/_box_predictor"
_BLOCK_PARTS = ("expand", "depthwise", "project")
_NORM_PARTS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def read_state(path: str | Path) -> State:
    """Weights of a zoo checkpoint under our names, its own class head included.

    Args:
        path: an archive (`.tar.gz`) as the zoo publishes it, its URL, the unpacked folder, its `checkpoint`
            folder, a checkpoint prefix (`…/ckpt-0`), or a converted `.safetensors`.

    Raises:
        CheckpointError: no checkpoint there, or one of another architecture.
        SourceError: the URL cannot be fetched.
        MissingExtraError: the checkpoint was not converted before and TensorFlow is not installed.
    """
    text = str(path)
    if text.lower().startswith(("http://", "https://")) and is_address(text):
        return read_state(_download(text))
    path = Path(path).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        return load_file(path)
    if path.is_file() and tarfile.is_tarfile(path):
        with tempfile.TemporaryDirectory() as folder:
            try:
                unpack(path, Path(folder), _LIMITS)
            except SourceError as error:
                raise CheckpointError(str(error)) from error
            return _convert(find_prefix(Path(folder)))
    return _convert(find_prefix(path))


def find_prefix(path: Path) -> Path:
    """The prefix (`…/ckpt-0`) of the checkpoint in a folder, or of one of its files."""
    if path.is_dir():
        # Newest number last, by number and not by text: ckpt-10 comes after ckpt-9.
        found = sorted(path.rglob("*.index"), key=lambda p: (len(p.stem), p.stem))
        if found:
            return found[-1].with_suffix("")
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if prefix.with_name(prefix.name + ".index").is_file():
        return prefix
    raise CheckpointError(
        f"{path}: no TensorFlow checkpoint there; "
        "give the zoo's .tar.gz, its unpacked folder, or …/checkpoint/ckpt-0"
    )


def _convert(prefix: Path) -> State:
    kept = cache_folder() / "zoo" / f"{_digest(prefix)}.safetensors"
    if kept.is_file():
        return load_file(kept)
    state = _rename(_read_variables(prefix), prefix)
    _keep(kept, lambda partial: save_file(state, partial))
    return state


def _digest(prefix: Path) -> str:
    digest = hashlib.sha256()
    for part in sorted(prefix.parent.glob(prefix.name + ".*")):
        if part.suffix == ".index" or ".data-" in part.name:
            digest.update(part.read_bytes())
    return digest.hexdigest()[:32]


def _read_variables(prefix: Path) -> dict[str, npt.NDArray[np.float32]]:
    tensorflow = load_tensorflow(f"Reading the TensorFlow checkpoint {prefix}")
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith("model/")]
        return {name.removesuffix(_VALUE): reader.get_tensor(name) for name in names}
    except Exception as error:  # TensorFlow raises a dozen kinds for a damaged file
        problem = f"{prefix}: TensorFlow cannot read it ({error}); fetch the archive again"
        raise CheckpointError(problem) from error


def _rename(variables: dict[str, npt.NDArray[np.float32]], prefix: Path) -> State:
    state: State = {}
    for ours, theirs in name_map():
        if theirs not in variables:
            raise CheckpointError(
                f"{prefix}: no variable {theirs}; "
                "give a checkpoint of ssd_mobilenet_v2_fpnlite, the only architecture of the zoo read here"
            )
        value = np.asarray(variables[theirs], np.float32)
        if value.ndim == 4:
            # Keras has (kh, kw, in, out), depthwise (kh, kw, channels, 1);
            # torch has (out, in, kh, kw), depthwise (channels, 1, kh, kw).
            value = value.transpose((2, 3, 0, 1) if theirs.endswith("depthwise_kernel") else (3, 2, 0, 1))
        state[ours] = np.ascontiguousarray(value)
    for name in [name for name in state if name.endswith("running_mean")]:
        state[name.replace("running_mean", "num_batches_tracked")] = np.array(0)
    return state


def name_map() -> Iterator[tuple[str, str]]:
    """(our state name, the checkpoint's variable name without its suffix), every one of the network."""
    yield from _backbone_names()
    for level, index in ((4, 0), (3, 1)):
        yield from _lateral(level, f"{_FPN}/residual_blocks/{index}/0")
        yield from _separable_norm(f"fpn.smooth{level}", f"{_FPN}/conv_layers/{index}")
    yield from _lateral(5, f"{_FPN}/top_layers/0")
    for level, index in ((6, 0), (7, 1)):
        yield from _separable_norm(f"fpn.down{level}", f"{_COARSE}/{index}")
    tower = f"{_PREDICTOR}/_head_scope_conv_layers/PredictionTower"
    for layer in range(_TOWER_DEPTH):
        yield from _separable(f"head.tower.{layer}", f"{tower}/{layer}")
        for level in range(_LEVELS):
            # The API keeps convolution, norm and activation in one list of three a layer.
            theirs = f"{_PREDICTOR}/_base_tower_layers_for_heads/box_encodings/{level}/{layer * 3 + 1}"
            yield from _norm(f"head.norms.{level}.{layer}", theirs)
    classes = "_prediction_heads/class_predictions_with_background/_class_predictor_layers/0"
    for ours, theirs in (("boxes", "_box_prediction_head/_box_encoder_layers/0"), ("classes", classes)):
        yield from _separable(f"head.{ours}", f"{_PREDICTOR}/{theirs}")
        yield f"head.{ours}.pointwise.bias", f"{_PREDICTOR}/{theirs}/bias"


def _backbone_names() -> Iterator[tuple[str, str]]:
    """Keras numbers the layers with weights one by one, convolution and BatchNorm in turn."""
    parts = ["stem", "blocks.0.depthwise", "blocks.0.project"]
    parts += [f"blocks.{block}.{part}" for block in range(1, 17) for part in _BLOCK_PARTS]
    for index, part in enumerate([*parts, "top"]):
        kernel = "depthwise_kernel" if part.endswith("depthwise") else "kernel"
        yield f"backbone.{part}.0.weight", f"{_BACKBONE.format(2 * index)}/{kernel}"
        yield from _norm(f"backbone.{part}.1", _BACKBONE.format(2 * index + 1))


def _norm(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for part, name in _NORM_PARTS.items():
        yield f"{ours}.{part}", f"{theirs}/{name}"


def _lateral(level: int, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"fpn.lateral{level}.weight", f"{theirs}/kernel"
    yield f"fpn.lateral{level}.bias", f"{theirs}/bias"


def _separable(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.depthwise.weight", f"{theirs}/depthwise_kernel"
    yield f"{ours}.pointwise.weight", f"{theirs}/pointwise_kernel"


def _separable_norm(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield from _separable(f"{ours}.0", f"{theirs}/0")
    yield from _norm(f"{ours}.1", f"{theirs}/1")


def _download(url: str) -> Path:
    """Fetches an archive into the cache folder, unless it is there."""
    name = PurePosixPath(Address.parse(url).path).name or "checkpoint.tar.gz"
    target = cache_folder() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if not target.is_file():
        _keep(target, lambda partial: fetch_file(url, partial, max_bytes=_ARCHIVE_BYTES))
    return target


def _keep(target: Path, write: Callable[[Path], object]) -> None:
    """Writes a file of the cache whole or not at all, also when two processes do so at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        write(partial)
        partial.replace(target)
    finally:
        for rest in target.parent.glob(f"{glob.escape(partial.name)}*"):
            rest.unlink()

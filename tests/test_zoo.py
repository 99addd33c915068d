"""Zoo checkpoints: where they are found, how the head is fitted, what is kept."""

from __future__ import annotations

import http.server
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from maskwatch.errors import CheckpointError, MissingExtraError, SourceError
from maskwatch.tf_compat import zoo

NAME = "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"


@pytest.fixture(scope="module")
def coco(shared: Path) -> Path:
    pytest.importorskip("tensorflow", reason="zoo checkpoints are read with TensorFlow ([tf])")
    return shared / "weights" / NAME


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKWATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_weight_of_the_network_has_a_name_in_the_checkpoint() -> None:
    from maskwatch.network import SSD

    ours = {name for name, _ in zoo.name_map()}
    wanted = {name for name in SSD(90).state_dict() if not name.endswith("num_batches_tracked")}
    assert ours == wanted


def test_folder_prefix_index_and_archive_are_the_same(coco: Path, tmp_path: Path, own_cache: Path) -> None:
    archive = tmp_path / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(coco, NAME)
    prefix = coco / "checkpoint" / "ckpt-0"
    states = [
        zoo.read_state(path)
        for path in (coco, coco / "checkpoint", prefix, prefix.with_suffix(".index"), archive)
    ]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(np.array_equal(state[name], states[0][name]) for name in state)


def test_converted_once_then_tensorflow_is_not_needed(
    coco: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from maskwatch.training.start import load_zoo

    first = load_zoo(coco)
    kept = list(own_cache.rglob("*.safetensors"))
    assert len(kept) == 1
    monkeypatch.setattr(zoo, "_read_variables", lambda prefix: pytest.fail("converted again"))
    again = load_zoo(coco)
    from_file = load_zoo(kept[0])
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert torch.equal(value, from_file.state_dict()[name])


def test_without_tensorflow_the_message_names_the_extra(
    coco: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwatch.training.start import load_zoo

    monkeypatch.setitem(sys.modules, "tensorflow.train", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"maskwatch\[tf\]"):
        load_zoo(coco)


def test_another_number_of_classes_replaces_only_the_class_head(coco: Path) -> None:
    import torch

    from maskwatch.training.start import load_zoo

    own, other = load_zoo(coco).state_dict(), load_zoo(coco, num_classes=3).state_dict()
    changed = {name for name in own if own[name].shape != other[name].shape}
    assert changed == {"head.classes.pointwise.weight", "head.classes.pointwise.bias"}
    assert all(torch.equal(own[name], other[name]) for name in own.keys() - changed)
    assert other["head.classes.pointwise.bias"].tolist() == pytest.approx([-4.6] * 24)


def test_classes_can_start_from_those_of_the_checkpoint(coco: Path) -> None:
    import torch

    from maskwatch.training.start import load_zoo

    own, mapped = load_zoo(coco), load_zoo(coco, class_sources=[0, None, 16])
    images = torch.rand(1, 3, 96, 96) * 2 - 1
    with torch.inference_mode():
        theirs, ours = own(images)[1], mapped(images)[1]
    assert ours.shape[-1] == 4
    torch.testing.assert_close(ours[..., [0, 1, 3]], theirs[..., [0, 1, 17]])


def test_fewer_anchors_keep_their_predictions(coco: Path) -> None:
    import torch

    from maskwatch.network import AnchorSpec
    from maskwatch.training.start import load_zoo

    full, fewer = load_zoo(coco), load_zoo(coco, anchors=AnchorSpec(aspect_ratios=(0.5, 1.0)))
    images = torch.rand(1, 3, 96, 96) * 2 - 1
    with torch.inference_mode():
        all_codes, codes = full(images)[0], fewer(images)[0]
    cells = all_codes.reshape(1, -1, 6, 4)  # aspect ratios 1, 2, 0.5, each of two scales
    torch.testing.assert_close(codes.reshape(1, -1, 4, 4), cells[:, :, [4, 5, 0, 1]])


@pytest.mark.parametrize("sources", [[0, 1], [0, 1, 90], [-1, 0, 1]])
def test_bad_class_sources(coco: Path, sources: list[int | None]) -> None:
    from maskwatch.training.start import load_zoo

    with pytest.raises(CheckpointError, match="class_sources"):
        load_zoo(coco, num_classes=3, class_sources=sources)


def test_nothing_there(tmp_path: Path) -> None:
    from maskwatch.training.start import load_zoo

    with pytest.raises(CheckpointError, match="no TensorFlow checkpoint there"):
        load_zoo(tmp_path)
    with pytest.raises(CheckpointError, match="no TensorFlow checkpoint there"):
        load_zoo(tmp_path / "absent.tar.gz")


def test_damaged_checkpoint(coco: Path, tmp_path: Path, own_cache: Path) -> None:
    from maskwatch.training.start import load_zoo

    for file in (coco / "checkpoint").iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="fetch the archive again"):
        load_zoo(tmp_path)
    assert not list(own_cache.rglob("*.safetensors"))


def test_the_highest_number_is_the_newest(tmp_path: Path) -> None:
    for number in (9, 10):
        (tmp_path / f"ckpt-{number}.index").touch()
    assert zoo.find_prefix(tmp_path).name == "ckpt-10"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves `tmp_path` on the loopback interface."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_url_is_fetched_once(coco: Path, tmp_path: Path, own_cache: Path, server: str) -> None:
    archive = tmp_path / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(coco, NAME)
    state = zoo.read_state(f"{server}/{archive.name}")
    archive.unlink()
    again = zoo.read_state(f"{server}/{archive.name}")
    assert all(np.array_equal(state[name], again[name]) for name in state)
    with pytest.raises(SourceError, match="404"):
        zoo.read_state(f"{server}/other.tar.gz")


def test_archive_cannot_write_outside(tmp_path: Path, own_cache: Path) -> None:
    from maskwatch.training.start import load_zoo

    inside = tmp_path / "payload"
    inside.write_text("x")
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(inside, "../../evil.index")
    with pytest.raises(CheckpointError, match="leads out"):
        load_zoo(archive)

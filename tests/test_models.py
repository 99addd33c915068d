"""Model files and their metadata."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.errors import MaskwatchError, ModelFileError, OptionError
from maskwatch.models import ModelMetadata, embedded_models, embedded_of_size, load_model_file

ABOUT = ModelMetadata(
    name="door",
    version="3",
    classes=("mask", "no_mask"),
    input_size=(320, 640),
    resize="squash",
    thresholds=(0.25, 0.5),
    trained_on="200 pictures, “ours”",
    created="2025-03-04",
    recipe="default",
)


def props(**changes: str) -> dict[str, str]:
    return {**ABOUT.to_props(), **{f"maskwatch.{key}": value for key, value in changes.items()}}


def test_props_are_the_contract() -> None:
    assert ABOUT.to_props() == {
        "maskwatch.format": "1",
        "maskwatch.name": "door",
        "maskwatch.version": "3",
        "maskwatch.classes": '["mask", "no_mask"]',
        "maskwatch.input_size": "[320, 640]",
        "maskwatch.resize": "squash",
        "maskwatch.thresholds": "[0.25, 0.5]",
        "maskwatch.trained_on": "200 pictures, “ours”",
        "maskwatch.created": "2025-03-04",
        "maskwatch.recipe": "default",
        "maskwatch.box_voting": "false",
        "maskwatch.calibration": "[]",
        "maskwatch.calibrated_on": "0",
        "maskwatch.precision": "float32",
        "maskwatch.quantised_on": "",
    }


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True).map(tuple),
    st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    st.text(min_size=1),
    st.data(),
)
def test_props_there_and_back(
    classes: tuple[str, ...], size: tuple[int, int], text: str, data: st.DataObject
) -> None:
    thresholds = data.draw(st.tuples(*[st.floats(0, 1)] * len(classes)))
    about = ModelMetadata(
        text, text, classes, size, "letterbox", thresholds, text, text, text, data.draw(st.booleans())
    )
    assert ModelMetadata.from_props(about.to_props() | {"other": "entry"}) == about


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "2"}, "model format '2', this version reads '1'; upgrade maskwatch"),
        ({"name": ""}, r"lacks maskwatch\.name"),
        ({"classes": "mask"}, "maskwatch.classes is 'mask', not a JSON list"),
        ({"classes": "[]"}, "not a list of different names"),
        ({"classes": '["a", "a"]'}, "not a list of different names"),
        ({"classes": "[1, 2]"}, "not a list of different names"),
        ({"input_size": "[640]"}, r"\[640\], not \[height, width\]"),
        ({"input_size": '["a", "b"]'}, "not .height, width."),
        ({"input_size": "[0, 640]"}, "not .height, width."),
        ({"input_size": "640"}, "not a JSON list"),
        ({"resize": "crop"}, "'crop', not 'letterbox' or 'squash'"),
        ({"thresholds": "[0.5]"}, "not 2 numbers"),
        ({"thresholds": '["a", 1]'}, "not 2 numbers"),
        ({"thresholds": "[NaN, 1]"}, "not 2 numbers"),
        ({"thresholds": f"[1, 1{400 * '0'}]"}, "not 2 numbers"),
        ({"box_voting": "yes"}, "is .yes., not .true. or .false."),
        ({"calibration": "[[2, 0.5]]"}, r"not \[\] or 2 pairs \[slope, offset\] with a slope above 0"),
        ({"calibration": "[[2, 0.5], [0, 1]]"}, "a slope above 0"),
        ({"calibration": "[[2, 0.5], [1]]"}, "a slope above 0"),
        ({"calibration": "[1, 2]"}, "a slope above 0"),
        ({"calibrated_on": "many"}, "is .many., not a whole number"),
        ({"precision": "int4"}, "is 'int4', not 'float32' or 'int8'"),
    ],
)
def test_wrong_props_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        ModelMetadata.from_props(props(**changes))


def test_a_calibration_comes_back_and_older_files_have_none() -> None:
    about = dataclasses.replace(ABOUT, calibration=((2.5, -0.25), (1.0, 0.0)), calibrated_on=238)
    entries = about.to_props()
    assert entries["maskwatch.calibration"] == "[[2.5, -0.25], [1.0, 0.0]]"
    assert ModelMetadata.from_props(entries) == about
    for key in ("calibration", "calibrated_on", "precision", "quantised_on"):
        del entries[f"maskwatch.{key}"]
    assert ModelMetadata.from_props(entries) == ABOUT


def test_props_of_others() -> None:
    with pytest.raises(ModelFileError, match="no Maskwatch metadata; write it with: maskwatch export"):
        ModelMetadata.from_props({"names": "a"})


def test_file_is_read_without_a_runtime(tiny_model: Path) -> None:
    from tiny_model import metadata

    file = load_model_file(str(tiny_model))
    assert file.path == tiny_model
    assert file.metadata == metadata()


def test_props_are_those_onnx_reads(tiny_model: Path) -> None:
    import onnx

    entries = {entry.key: entry.value for entry in onnx.load(str(tiny_model)).metadata_props}
    assert load_model_file(tiny_model).metadata.to_props() == entries


def test_onnx_of_somebody_else(tmp_path: Path) -> None:
    from tiny_model import metadata, write_tiny_model

    path = write_tiny_model(tmp_path / "theirs.onnx", metadata(), {"author": "somebody"})
    with pytest.raises(
        ModelFileError, match=r"theirs\.onnx: this is not a Maskwatch model: .*maskwatch export"
    ):
        load_model_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"hello there", b"\x08\x08", b"\xff" * 40, bytes(range(256))]
)
def test_files_that_are_no_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"x\.onnx: this is not an ONNX file"):
        load_model_file(path)


@given(st.binary(max_size=300))
def test_no_bytes_give_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("noise") / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        load_model_file(path)


def test_truncated_model(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(tiny_model.read_bytes()[:2000])
    with pytest.raises(ModelFileError, match="not an ONNX file"):
        load_model_file(path)


def test_paths_that_are_no_model(tmp_path: Path, tiny_embedded: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"x")
    with pytest.raises(
        ModelFileError, match=r"training checkpoint; export it first: maskwatch export .*last\.ckpt"
    ):
        load_model_file(tmp_path / "last.ckpt")
    with pytest.raises(ModelFileError, match="this is a folder"):
        load_model_file(tmp_path)
    for name in ("maskwatch-641", "m" * 5000):
        with pytest.raises(ModelFileError, match=r"there are: maskwatch-640, maskwatch-320"):
            load_model_file(name)


def test_embedded_models_are_listed_with_the_default_first(tiny_embedded: Path) -> None:
    assert embedded_models() == ("maskwatch-640", "maskwatch-320")
    assert load_model_file("maskwatch-320").path == tiny_embedded / "maskwatch-320.onnx"


def test_embedded_by_size(tiny_embedded: Path) -> None:
    assert embedded_of_size(32) == "maskwatch-320"
    with pytest.raises(OptionError, match="size 640; choose one of those there are: 32, 64"):
        embedded_of_size(640)


def test_no_embedded_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwatch.models._WEIGHTS", tmp_path)
    assert embedded_models() == ()
    with pytest.raises(MaskwatchError, match="there are: none"):
        load_model_file("maskwatch-640")


def test_metadata_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ABOUT.name = "other"  # type: ignore[misc]

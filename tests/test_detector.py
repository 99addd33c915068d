"""Detector and runtime, on the tiny model of tiny_model.py."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from maskwatch import Detector, read_image
from maskwatch.errors import ImageError, LabelError, MaskwatchError, ModelFileError, OptionError, SourceError
from maskwatch.media.videos import Video, video_writer
from maskwatch.runtimes.onnx_runtime import OnnxRuntime

FOUND = [[16, 0, 32, 16], [0, 32, 16, 48], [48, 48, 64, 64]]


@pytest.fixture(scope="module")
def detector(tiny_model: Path) -> Detector:
    return Detector(tiny_model, threads=1)


def faint(level: int) -> np.ndarray:
    """A picture with one green cell that scores level / 255."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[0:16, 0:16, 1] = level
    return image


def test_what_it_finds(detector: Detector, street: np.ndarray) -> None:
    found = detector(street)
    assert isinstance(found, sv.Detections)
    assert found.xyxy.tolist() == FOUND
    assert found.xyxy.dtype == np.float32
    assert found.class_id is not None
    assert found.class_id.tolist() == [0, 1, 2]
    assert found.confidence is not None
    assert found.confidence.dtype == np.float32
    assert found.confidence.tolist() == [1, 1, 1]
    assert found.data["class_name"].tolist() == ["mask", "no_mask", "mask_incorrect"]


def test_properties(detector: Detector, tiny_model: Path) -> None:
    assert detector.name == "tiny"
    assert detector.class_names == ("mask", "no_mask", "mask_incorrect")
    assert detector.input_size == (64, 64)
    assert detector.thresholds == {"mask": 0.5, "no_mask": 0.4, "mask_incorrect": 0.3}
    mixed = Detector(tiny_model, threshold={"no_mask": 0.9})
    assert mixed.thresholds == {"mask": 0.5, "no_mask": 0.9, "mask_incorrect": 0.3}


def test_nothing_found_is_an_empty_result_of_the_same_type(detector: Detector, street: np.ndarray) -> None:
    found = detector(np.zeros((10, 20, 3), np.uint8))
    some = detector(street)
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)
    for nothing, something in ((found.confidence, some.confidence), (found.class_id, some.class_id)):
        assert nothing is not None
        assert something is not None
        assert nothing.shape == (0,)
        assert nothing.dtype == something.dtype
    assert found.data["class_name"].shape == (0,)
    assert found.data["class_name"].dtype == some.data["class_name"].dtype


def test_every_kind_of_input_gives_the_same(detector: Detector, street: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "street.png"
    Image.fromarray(street).save(path)
    alpha = np.dstack([street, np.full((64, 64), 255, np.uint8)])
    inputs = [
        street,
        path,
        str(path),
        path.read_bytes(),
        Image.open(path),
        alpha,
        street.astype(np.uint16) * 257,
    ]
    for found in [*map(detector, inputs), *detector(inputs), *detector(tuple(inputs))]:
        assert found.xyxy.tolist() == FOUND


def test_boxes_are_in_pixels_of_the_original(detector: Detector, street: np.ndarray) -> None:
    large = street.repeat(10, axis=0).repeat(10, axis=1)[:, :480]  # 640 high, 480 wide: the blue cell is off
    np.testing.assert_allclose(detector(large).xyxy, np.array(FOUND[:2]) * 10, atol=1e-3)


def test_exif_turned(detector: Detector, street: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    buffer = io.BytesIO()
    Image.fromarray(street).save(buffer, "PNG", exif=exif)
    turned = np.rot90(street, -1)
    assert detector(buffer.getvalue()).xyxy.tolist() == detector(turned).xyxy.tolist() != FOUND


def test_a_list_is_batched_and_keeps_its_order(detector: Detector, street: np.ndarray) -> None:
    pictures = [faint(level) for level in range(131, 251, 6)]  # 20 of them: three batches
    found = detector([*pictures, street])
    scores = [float(one.confidence[0]) for one in found[:-1] if one.confidence is not None]
    np.testing.assert_allclose(scores, [level / 255 for level in range(131, 251, 6)], atol=1e-6)
    assert found[-1].xyxy.tolist() == FOUND
    assert detector([]) == []


def test_threshold_of_one_call(detector: Detector) -> None:
    picture = faint(100)  # 0.39
    assert len(detector(picture)) == 0
    assert len(detector(picture, threshold=0.3)) == 1
    assert len(detector(picture, threshold=0)) == 1
    assert len(detector(picture, threshold={"mask": 0.3})) == 1
    assert len(detector(picture, threshold={"no_mask": 0.3})) == 0
    assert len(detector([picture], threshold=0.3)[0]) == 1
    assert len(detector(picture)) == 0


def test_threshold_of_the_detector(tiny_model: Path) -> None:
    low = Detector(tiny_model, threshold=0.3)
    assert len(low(faint(100))) == 1
    assert len(low(faint(100), threshold={"no_mask": 0.9})) == 1  # the others stay as they are
    assert len(low(faint(100), threshold=0.4)) == 0


def test_a_threshold_is_named_by_any_spelling_of_the_class(detector: Detector) -> None:
    assert len(detector(faint(100), threshold={"MASK": 0.3})) == 1


@pytest.mark.parametrize("value", [None, "0.5", [0.5]])
def test_a_threshold_that_is_no_number_is_refused(detector: Detector, value: object) -> None:
    with pytest.raises(OptionError, match=r"threshold of mask is .* pass a number from 0 to 1"):
        detector(faint(100), threshold={"mask": value})  # type: ignore[dict-item]


def test_score_must_be_above_the_threshold(detector: Detector) -> None:
    assert len(detector(faint(255), threshold=1.0)) == 0


def test_overlap_options(tiny_model: Path, street: np.ndarray) -> None:
    yellow = np.zeros((64, 64, 3), np.uint8)
    yellow[16:32, 16:32] = (255, 200, 0)  # both no_mask and mask
    assert len(Detector(tiny_model)(yellow)) == 1
    assert len(Detector(tiny_model, class_agnostic=False)(yellow)) == 2
    assert len(Detector(tiny_model, iou_threshold=0.7)(yellow)) == 2


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 500), (500, 1), (20_000, 20)])
def test_odd_sizes(detector: Detector, size_hw: tuple[int, int]) -> None:
    # A line leaves most of a cell grey, so that any score counts.
    found = detector(np.full((*size_hw, 3), (0, 255, 0), np.uint8), threshold=0)
    assert len(found) > 0
    assert found.xyxy.min() >= 0
    assert (found.xyxy.max(axis=0) <= [size_hw[1], size_hw[0]] * 2).all()


def test_boxes_in_the_padding_alone_are_left_out(tiny_model: Path) -> None:
    detector = Detector(tiny_model, iou_threshold=0.7)
    found = detector(np.full((8, 64, 3), (0, 255, 0), np.uint8), threshold=0)
    assert len(found) > 0
    assert (found.xyxy[:, 3] > found.xyxy[:, 1]).all()


def test_many_threads_get_the_same(detector: Detector, street: np.ndarray) -> None:
    pictures = [street, faint(200), np.zeros((9, 9, 3), np.uint8)] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(detector, pictures))
    assert [len(one) for one in found] == [3, 1, 0] * 20
    assert all(one.xyxy.tolist() == FOUND for one in found[::3])


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), "0.5"])
def test_threshold_out_of_range(detector: Detector, street: np.ndarray, value: float) -> None:
    with pytest.raises(OptionError, match="pass a number from 0 to 1"):
        detector(street, threshold=value)
    with pytest.raises(OptionError, match="threshold of mask"):
        detector(street, threshold={"mask": value})


def test_threshold_of_an_unknown_class(detector: Detector, street: np.ndarray) -> None:
    with pytest.raises(LabelError, match="class 'helmet', which tiny does not have; use mask, no_mask"):
        detector(street, threshold={"helmet": 0.5})


def test_wrong_options(tiny_model: Path) -> None:
    with pytest.raises(OptionError, match="iou_threshold is 2"):
        Detector(tiny_model, iou_threshold=2)
    with pytest.raises(OptionError, match="threads is 0"):
        Detector(tiny_model, threads=0)
    with pytest.raises(OptionError, match="runtime 'tensorrt' is unknown"):
        Detector(tiny_model, runtime="tensorrt")


def test_broken_input_among_others(detector: Detector, street: np.ndarray) -> None:
    with pytest.raises(ImageError, match="is empty"):
        detector([street, b""])
    with pytest.raises(ImageError, match="from NoneType"):
        detector(None)  # type: ignore[call-overload]


def test_the_default_model_is_the_embedded_one(tiny_embedded: Path, street: np.ndarray) -> None:
    assert Detector().name == "maskwatch-640"
    assert len(Detector()(street)) == 3
    assert Detector("maskwatch-320").input_size == (32, 32)


def test_stages_are_the_call(detector: Detector, street: np.ndarray) -> None:
    batch, placements = detector.prepare([street, faint(200)])
    assert batch.shape == (2, 64, 64, 3)
    found = detector.collect(detector.run(batch), placements)
    assert [one.xyxy.tolist() for one in found] == [
        one.xyxy.tolist() for one in detector([street, faint(200)])
    ]


def test_squashing_model(tmp_path: Path) -> None:
    from tiny_model import metadata, write_tiny_model

    path = write_tiny_model(tmp_path / "squash.onnx", metadata(resize="squash"))
    picture = np.zeros((32, 128, 3), np.uint8)
    picture[8:16, 32:64] = (0, 255, 0)
    np.testing.assert_allclose(Detector(path)(picture).xyxy, [[32, 8, 64, 16]], atol=1e-3)


def test_runtime_leaves_options_at_the_files_own(tiny_model: Path) -> None:
    raw = OnnxRuntime(tiny_model, 1)(faint(100)[None])
    assert raw.boxes.shape == (1, 100, 4)
    assert raw.num_detections.tolist() == [0]
    assert raw.classes.tolist() == [[-1] * 100]
    raw = OnnxRuntime(tiny_model)(faint(100)[None], np.array([0.1, 0.1, 0.1], np.float32))
    assert raw.num_detections.tolist() == [1]


def test_onnx_with_other_inputs(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    from tiny_model import metadata

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "neg", [value], [other])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, metadata().to_props())
    onnx.save(model, str(tmp_path / "neg.onnx"))
    with pytest.raises(ModelFileError, match=r"inputs \['x'\] and outputs \['y'\] are not those"):
        Detector(tmp_path / "neg.onnx")


def test_onnx_that_the_runtime_cannot_load(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import onnx

    from tiny_model import metadata, write_tiny_model

    path = write_tiny_model(tmp_path / "bad.onnx", metadata())
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(path))
    with pytest.raises(ModelFileError, match=r"bad\.onnx: ONNX Runtime cannot load it"):
        Detector(path)
    assert capfd.readouterr().err == ""


@pytest.fixture
def film(tmp_path: Path, street: np.ndarray) -> Path:
    """Twenty frames, of which the first twelve show the street, ten a second."""
    path = tmp_path / "film.mp4"
    with video_writer(path, 10) as write:
        for index in range(20):
            write(street if index < 12 else np.zeros_like(street))
    return path


def test_a_video_gives_each_frame_with_its_time(detector: Detector, film: Path) -> None:
    found = list(detector.detect_video(film))
    assert [frame.index for frame, _ in found] == list(range(20))
    np.testing.assert_allclose([frame.time_s for frame, _ in found], np.arange(20) / 10, atol=1e-3)
    assert [len(detections) for _, detections in found] == [3] * 12 + [0] * 8
    frame, detections = found[5]
    np.testing.assert_array_equal(detections.xyxy, detector(frame.image_rgb).xyxy)
    none = detector.detect_video(str(film), threshold=1.0)
    assert sum(len(detections) for _, detections in none) == 0


def test_a_video_is_closed_however_the_loop_ends(
    detector: Detector, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []
    close = Video.close

    def watched(video: Video) -> None:
        closed.append(video.path)
        close(video)

    monkeypatch.setattr(Video, "close", watched)
    for _ in detector.detect_video(film):
        break
    assert closed == [film]
    list(detector.detect_video(film))
    assert closed == [film] * 2
    with Video(film) as video:
        list(detector.detect_video(video))
        assert closed == [film] * 2  # the caller's own
    assert closed == [film] * 3


def test_a_video_that_breaks_off_gives_its_readable_frames_first(detector: Detector, film: Path) -> None:
    film.write_bytes(film.read_bytes()[:-2000])
    frames: list[int] = []
    with pytest.raises(SourceError, match=r"film\.mp4: "):
        frames.extend(frame.index for frame, _ in detector.detect_video(film))
    assert frames == list(range(len(frames)))
    with pytest.raises(SourceError, match="cannot be read"):
        next(detector.detect_video(film.with_name("gone.mp4")))
    with pytest.raises(OptionError, match="threshold is 2"):
        next(detector.detect_video(film, threshold=2))


def test_a_folder_gives_each_picture(detector: Detector, street: np.ndarray, film: Path) -> None:
    folder = film.parent
    Image.fromarray(street).save(folder / "b.png")
    (folder / "deep").mkdir()
    Image.fromarray(np.zeros_like(street)).save(folder / "deep/a.png")
    found = [(path.name, len(detections)) for path, detections in detector.detect_folder(folder)]
    assert found == [("b.png", 3), ("a.png", 0)]  # and not the video
    assert [len(found) for _, found in detector.detect_folder(str(folder), threshold=1.0)] == [0, 0]


def test_broken_pictures_of_a_folder(detector: Detector, street: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.fromarray(street).save(tmp_path / "b.png")
    errors: list[tuple[str, MaskwatchError]] = []
    found = list(
        detector.detect_folder(tmp_path, on_error=lambda path, error: errors.append((path.name, error)))
    )
    assert [path.name for path, _ in found] == ["b.png"]
    assert [name for name, _ in errors] == ["a.png"]
    with pytest.raises(ImageError, match=r"a\.png: not a picture"):
        list(detector.detect_folder(tmp_path))
    with pytest.raises(SourceError, match="no such file or folder"):
        next(detector.detect_folder(tmp_path / "gone"))


# ---- Large JPEGs ------------------------------------------------------------------------------------------


def large(street: np.ndarray, mode: str = "RGB", side: int = 3840) -> Image.Image:
    """The street with `side` pixels, two thirds as high; every cell keeps its colour."""
    return Image.fromarray(street[:43]).resize((side, side * 2 // 3), Image.Resampling.NEAREST).convert(mode)


@pytest.mark.parametrize(
    ("mode", "orientation", "options"),
    [
        ("RGB", 1, {}),
        ("RGB", 6, {}),
        ("RGB", 7, {"progressive": True}),
        ("CMYK", 1, {}),
        ("L", 1, {"progressive": True}),
    ],
)
def test_a_reduced_jpeg_has_the_boxes_of_the_whole_one(
    detector: Detector, street: np.ndarray, mode: str, orientation: int, options: dict[str, bool]
) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    large(street, mode).save(file, "JPEG", quality=95, exif=exif, **options)
    picture = detector.read(file.getvalue())
    whole_rgb = read_image(file.getvalue())
    assert max(picture.image_rgb.shape) == 1920
    assert picture.metadata.size_hw == whole_rgb.shape[:2]
    found, expected = detector(file.getvalue()), detector(whole_rgb)
    assert len(expected) == (0 if mode == "L" else 2)
    np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=0.01)
    assert found.class_id.tolist() == expected.class_id.tolist()


@pytest.mark.parametrize(
    ("side", "kind", "read"),
    [
        (3838, "JPEG", 3838),  # half of it would be less than 1920
        (3844, "JPEG", 1922),
        (3842, "JPEG", 3842),  # its height is odd
        (7680, "JPEG", 1920),
        (3840, "PNG", 3840),
    ],
)
def test_what_is_reduced(detector: Detector, street: np.ndarray, side: int, kind: str, read: int) -> None:
    file = io.BytesIO()
    large(street, side=side).save(file, kind)
    picture = detector.read(file.getvalue())
    assert picture.image_rgb.shape[1] == read
    assert picture.metadata.size_hw == (side * 2 // 3, side)


def test_a_truncated_large_jpeg_is_an_error(detector: Detector, street: np.ndarray, tmp_path: Path) -> None:
    file = io.BytesIO()
    large(street).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue()[:-2000])
    with pytest.raises(ImageError, match=r"a\.jpg: broken picture"):
        detector(tmp_path / "a.jpg")


def test_a_folder_by_workers_gives_the_same_in_the_same_order(
    tiny_model: Path, street: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        Image.fromarray(np.roll(street, 16 * number, 1)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr("maskwatch.detector.usable_cores", lambda: 4)
    detector = Detector(tiny_model, threads=1)
    assert (detector.workers, Detector(tiny_model).workers, Detector(tiny_model, threads=9).workers) == (
        4,
        1,
        1,
    )
    found = list(detector.detect_folder(tmp_path))
    assert [path.name for path, _ in found] == [f"{number}.png" for number in range(9)]
    for path, detections in found:
        np.testing.assert_array_equal(detections.xyxy, detector(read_image(path)).xyxy)

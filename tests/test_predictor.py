from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import supervision as sv
from PIL import Image

from maskwatch.data import DetectionSet, read_data
from maskwatch.errors import ImageError, LabelError
from maskwatch.evaluation import coco_evaluate, predict


class RedFinder:
    """A detector of the red rectangle, which tells what it was given."""

    def __init__(self, class_names: tuple[str, ...] = ("mask", "no_mask", "mask_incorrect")) -> None:
        self.class_names = class_names
        self.batches: list[int] = []

    def __call__(self, images: list[npt.NDArray[np.uint8]], /) -> list[sv.Detections]:
        self.batches.append(len(images))
        return [self._find(image) for image in images]

    def _find(self, image: npt.NDArray[np.uint8]) -> sv.Detections:
        rows, columns = np.nonzero(image[..., 0] > 128)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return sv.Detections(
            np.array([box], np.float32), confidence=np.ones(1, np.float32), class_id=np.zeros(1, int)
        )


@pytest.fixture
def red(tmp_path: Path) -> DetectionSet:
    """Five pictures with a red rectangle, two of them turned by EXIF; the boxes are those as shown."""
    for number in range(5):
        image = Image.new("RGB", (40, 30))
        x0, y0, x1, y1 = 3 + number, 2, 20 + number, 12
        image.paste((255, 0, 0), (x0, y0, x1, y1))
        exif = Image.Exif()
        if number % 2:
            exif[0x0112] = 6  # shown turned by 90° clockwise: x becomes y, and y counts from the right
            x0, y0, x1, y1 = 30 - y1, x0, 30 - y0, x1
        image.save(tmp_path / f"{number}.png", exif=exif)
        (tmp_path / f"{number}.xml").write_text(
            f"<annotation><object><name>mask</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y1}</ymax></bndbox></object></annotation>",
            encoding="utf-8",
        )
    return read_data(tmp_path)


def test_predictions_come_in_order_and_fit_the_picture_as_shown(red: DetectionSet) -> None:
    detector = RedFinder()
    steps: list[tuple[int, int]] = []
    predictions = predict(
        detector, red, batch_size=2, progress=lambda done, total: steps.append((done, total))
    )
    assert detector.batches == [2, 2, 1]
    assert steps == [(2, 5), (4, 5), (5, 5)]
    for sample, found in zip(red.samples, predictions, strict=True):
        np.testing.assert_array_equal(sample.boxes_xyxy, found.xyxy)
    assert coco_evaluate(red, predictions).stats["AP"] == pytest.approx(1)


def test_several_detectors_read_each_picture_once(red: DetectionSet, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwatch.evaluation import predictor

    read, paths = predictor.read_image, []
    monkeypatch.setattr(predictor, "read_image", lambda path: (paths.append(path), read(path))[1])
    one, two = RedFinder(), RedFinder()
    first, second = predictor.predict_all([one, two], red, batch_size=2)
    assert paths == [sample.image_path for sample in red.samples]
    assert one.batches == two.batches == [2, 2, 1]
    for alone, mine, yours in zip(predict(one, red), first, second, strict=True):
        assert alone.xyxy.tolist() == mine.xyxy.tolist() == yours.xyxy.tolist()


def test_other_classes_are_refused_before_any_picture(red: DetectionSet) -> None:
    detector = RedFinder(("no_mask", "mask", "mask_incorrect"))
    with pytest.raises(
        LabelError, match="knows no_mask, mask, mask_incorrect, the data set was read as mask"
    ):
        predict(detector, red)
    assert detector.batches == []


def test_a_picture_that_broke_is_named(red: DetectionSet) -> None:
    red.samples[3].image_path.write_bytes(b"broken")
    with pytest.raises(ImageError, match=r"3\.png"):
        predict(RedFinder(), red)

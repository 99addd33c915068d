"""JSON and CSV records, and their description in docs/records.md."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from maskwatch.errors import OutputError
from maskwatch.records import CSV_COLUMNS, CsvWriter, JsonWriter, Result, open_record_file, to_records

FOUND = sv.Detections(
    xyxy=np.array([[411.2, 96.05, 502.7149, 210.4], [0, 0, 1, 1]], np.float32),
    confidence=np.array([0.93124, 0.5], np.float32),
    class_id=np.array([1, 0]),
    data={"class_name": np.array(["no_mask", "mask"])},
)
NOTHING = FOUND[np.zeros(2, bool)]
DOOR = Result('dör, "1".jpg', 1280, 720, FOUND)
FRAME = Result("film.mp4", 640, 480, NOTHING, frame=3, time_s=0.12)
PAGE = Path(__file__).parents[1] / "docs" / "records.md"


def write_json(path: Path) -> None:
    with open_record_file(str(path)) as file:
        writer = JsonWriter(file, {"name": "tiny"})
        writer.add(DOOR)
        writer.add(FRAME)
        writer.fail("torn.jpg", "the file is empty")
        writer.close()


def test_plain_dictionaries() -> None:
    records = to_records(FOUND)
    assert records == [
        {"class": "no_mask", "class_id": 1, "score": 0.9312, "box": [411.2, 96.05, 502.71, 210.4]},
        {"class": "mask", "class_id": 0, "score": 0.5, "box": [0.0, 0.0, 1.0, 1.0]},
    ]
    assert json.loads(json.dumps(records)) == records
    assert to_records(sv.Detections.empty()) == []
    assert to_records(sv.Detections(xyxy=np.array([[0, 0, 1, 1]], np.float32)))[0]["score"] is None


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_json(path)
    document = json.loads(path.read_text("utf-8"))
    assert document["schema"] == "maskwatch.detections/1"
    assert document["model"] == {"name": "tiny"}
    assert document["failures"] == [{"source": "torn.jpg", "reason": "the file is empty"}]
    assert document["results"] == [
        {
            "source": 'dör, "1".jpg',
            "kind": "picture",
            "frame": None,
            "time_s": None,
            "width": 1280,
            "height": 720,
            "detections": to_records(FOUND),
        },
        {
            "source": "film.mp4",
            "kind": "video",
            "frame": 3,
            "time_s": 0.12,
            "width": 640,
            "height": 480,
            "detections": [],
        },
    ]


def test_json_of_nothing(tmp_path: Path) -> None:
    with open_record_file(str(tmp_path / "r.json")) as file:
        JsonWriter(file, {}).close()
    document = json.loads((tmp_path / "r.json").read_text())
    assert (document["results"], document["failures"]) == ([], [])


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    with open_record_file(str(path)) as file:
        writer = CsvWriter(file)
        writer.add(DOOR)
        writer.add(FRAME)
        writer.add(Result("film.mp4", 640, 480, FOUND, frame=4, time_s=0.16))
        writer.fail("torn.jpg", "the file is empty")
        writer.close()
    assert b"\r" not in path.read_bytes()
    with path.open(encoding="utf-8", newline="") as rows:
        table = list(csv.DictReader(rows))
    assert [row["source"] for row in table] == ['dör, "1".jpg'] * 2 + ["film.mp4"] * 2
    assert list(table[0].values()) == [
        *["1", 'dör, "1".jpg', "picture", "", "", "1280", "720"],
        *["no_mask", "1", "0.9312", "411.2", "96.05", "502.71", "210.4"],
    ]
    assert (table[2]["frame"], table[2]["time_s"], table[2]["kind"]) == ("4", "0.16", "video")


def test_the_page_describes_what_is_written(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    example = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    write_json(tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert example.keys() == written.keys()
    assert example["schema"] == written["schema"]
    assert example["results"][0].keys() == written["results"][0].keys()
    assert example["results"][0]["detections"][0] == to_records(FOUND)[0]
    assert example["failures"][0].keys() == written["failures"][0].keys()
    assert ",".join(CSV_COLUMNS) in page
    assert all(f"`{column}`" in page for column in CSV_COLUMNS)


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with open_record_file("-") as file:
        CsvWriter(file).close()
    assert capsys.readouterr().out == ",".join(CSV_COLUMNS) + "\n"


def test_an_error_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("old")

    def interrupted() -> None:
        with open_record_file(str(path)) as file:
            CsvWriter(file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="cannot be written"),
        open_record_file(str(tmp_path / "gone/r.csv")),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is not there")
def test_a_full_disk_is_reported() -> None:
    with (
        pytest.raises(OutputError, match=r"/dev/full: cannot be written .No space left"),
        open_record_file("/dev/full") as file,
    ):
        CsvWriter(file).close()

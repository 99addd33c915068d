"""The labelling server: its routes, who may use them, and what a kill leaves."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from starlette.testclient import TestClient

from label_data import FOLDERS, coco_folder, draw, voc_folder
from maskwatch.cli.app import main
from maskwatch.errors import DataError, MaskwatchError, OptionError
from maskwatch.label.annotation import LabelBox
from maskwatch.label.background import Foreground
from maskwatch.label.changes import Changes, sse
from maskwatch.label.images import EncodedImage, ImageCache
from maskwatch.label.pace import LEAST_BOXES, LEAST_S, PAUSE_S, Pace
from maskwatch.label.project import open_project
from maskwatch.label.server import LabelServer
from maskwatch.label.settings import LabelSettings
from maskwatch.label.store import LabelStore
from maskwatch.labels import ClassMap
from maskwatch.serve.core.auth import Authenticator

TOKEN = "a-token-of-the-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
API = "/api/label"
LONG_S = 60.0
BOX = {"id": None, "box_xyxy": [5, 6, 25, 30], "class": "mask"}


@contextlib.contextmanager
def client_of(folder: Path, **settings: Any) -> Iterator[TestClient]:
    settings = {
        "classes": None if "model" in settings else ClassMap(["mask", "no_mask", "other"]),
        **settings,
    }
    server = LabelServer(LabelSettings(folder, TOKEN, **settings))
    with TestClient(server.app, base_url="http://127.0.0.1", headers=BEARER) as client:
        client.server = server  # type: ignore[attr-defined]
        yield client


def put(client: TestClient, name: str, revision: str | None, **body: Any) -> Any:
    headers = {} if revision is None else {"If-Match": f'"{revision}"'}
    return client.put(f"{API}/pictures/{name}", json=body, headers=headers)


def post(client: TestClient, suspect_id: str, decision: str, revision: str = "x", **more: str) -> Any:
    path, headers = f"{API}/suspects/{suspect_id}", {"If-Match": revision}
    return client.post(path, json={"decision": decision, **more}, headers=headers)


def picture(client: TestClient, name: str) -> dict[str, Any]:
    answer = client.get(f"{API}/pictures/{name}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LONG_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def faces(tmp_path: Path, street: np.ndarray) -> Path:
    """Pictures of 64 × 64 in which the tiny model finds mask, no_mask and mask_incorrect."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for name, image in (("a", street), ("b", street[::-1]), ("c", np.full((64, 64, 3), 90, np.uint8))):
        Image.fromarray(np.ascontiguousarray(image)).save(folder / f"{name}.png")
    return folder


# ---- Routes ----------------------------------------------------------------------------------------------


def test_the_project_and_its_list(tmp_path: Path) -> None:
    folder = voc_folder(tmp_path / "set")
    Image.effect_noise((100, 60), 80).convert("RGB").save(folder / "JPEGImages" / "b.jpg")  # no duplicate
    with client_of(folder) as client:
        project = client.get(f"{API}/project").json()
        assert project["format"] == "voc"
        assert project["classes"][0] == {"name": "mask", "color": "#009e73", "key": "1"}
        assert project["counts"] == {
            "pictures": 2,
            "done": 1,
            "todo": 1,
            "suspects": 0,
            "duplicates": 0,
        }
        assert project["per_class"] == {"mask": 1, "no_mask": 1, "other": 0}
        assert (project["model"], project["read_only_reason"], project["marks_ignored"]) == (None, None, True)

        def names(query: str) -> list[str]:
            return [row["image_id"] for row in client.get(f"{API}/pictures?{query}").json()["pictures"]]

        a, b = "JPEGImages/a.jpg", "JPEGImages/b.jpg"
        assert names("") == names("order=useful") == [b, a]
        assert names("order=name") == [a, b]
        assert (names("state=done"), names("state=todo"), names("state=suspect")) == ([a], [b], [])
        assert (names("class=no_mask"), names("class=other"), names("q=B.JP")) == ([a], [], [b])
        assert (names("size=small"), names("size=medium"), names("size=large")) == ([a], [a], [])
        row = client.get(f"{API}/pictures?q=a.jpg").json()["pictures"][0]
        assert (row["width"], row["height"], row["boxes"], row["state"]) == (100, 60, 2, "labelled")


@pytest.mark.parametrize("kind", FOLDERS)
def test_saving_answers_in_the_order_sent(tmp_path: Path, kind: str) -> None:
    with client_of(FOLDERS[kind](tmp_path)) as client:
        (name,) = (row["image_id"] for row in client.get(f"{API}/pictures?q=a.jpg").json()["pictures"])
        before = picture(client, name)
        sent = [BOX, *reversed(before["boxes"])]
        answer = put(client, name, before["revision"], boxes=sent)
        assert answer.status_code == 200, answer.text
        boxes = answer.json()["boxes"]
        assert [box["class"] for box in boxes] == ["mask", "no_mask", "mask"]
        assert [[round(v, 3) for v in box["box_xyxy"]] for box in boxes] == [
            [round(v, 3) for v in box["box_xyxy"]] for box in sent
        ]
        now = picture(client, name)
        assert now["revision"] == answer.json()["revision"]
        assert sorted(box["id"] for box in now["boxes"]) == sorted(box["id"] for box in boxes)


def test_a_conflict_shows_what_is_there(tmp_path: Path) -> None:
    with client_of(voc_folder(tmp_path / "set")) as client:
        name = "JPEGImages/b.jpg"
        assert put(client, name, "none", boxes=[BOX]).status_code == 200
        answer = put(client, name, "none", boxes=[], empty=True)
        assert answer.status_code == 412
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["current"] == picture(client, name)


def test_wrong_requests_say_what_to_do(tmp_path: Path) -> None:
    with client_of(voc_folder(tmp_path / "set")) as client:
        name = "JPEGImages/b.jpg"
        cases = [
            (put(client, name, None, boxes=[]), 428, "send the revision"),
            (put(client, name, "none", boxes=[BOX], empty=True), 422, "send one or the other"),
            (put(client, name, "none", boxes=[BOX | {"class": "dog"}]), 422, "'dog' is none of mask"),
            (put(client, name, "none", boxes=[BOX | {"box_xyxy": [1, 2, 3]}]), 422, "box_xyxy"),
            (put(client, name, "none", boxes=[BOX | {"box_xyxy": [1, 2, 1, 9]}]), 422, "has no area"),
            (put(client, name, "none"), 422, "boxes"),
            (put(client, "nothing.jpg", "none", boxes=[]), 404, "load the list again"),
            (put(client, "../../etc/passwd", "none", boxes=[]), 404, ""),
            (client.get(f"{API}/images/..%2f..%2fset%2fAnnotations%2fa.xml"), 404, "load the list again"),
            (client.get(f"{API}/pictures?order=odd"), 422, "order"),
            (client.put(f"{API}/pictures/{name}", content=b"{}"), 415, "application/json"),
            (put(client, name, "none", boxes=[BOX] * 40_000), 413, "fewer boxes"),
            (post(client, "x", "label"), 404, "no suspect"),
        ]
        for answer, status, text in cases:
            assert answer.status_code == status, answer.text
            assert text in answer.json()["detail"]
        assert picture(client, name)["state"] == "unlabelled"


def test_a_full_disk_is_507(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with client_of(voc_folder(tmp_path / "set")) as client:
        with monkeypatch.context() as patch:
            patch.setattr(
                os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )
            answer = put(client, "JPEGImages/b.jpg", "none", boxes=[BOX])
        assert answer.status_code == 507
        assert "free some and save again" in answer.json()["detail"]
        assert put(client, "JPEGImages/b.jpg", "none", boxes=[BOX]).status_code == 200


def test_a_folder_that_cannot_be_written_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = voc_folder(tmp_path / "set")
    monkeypatch.setattr("maskwatch.label.session.read_only_reason", lambda _: "no permission; label a copy")
    with client_of(folder) as client:
        project = client.get(f"{API}/project").json()
        assert (project["read_only_reason"], project["decisions"]) == ("no permission; label a copy", None)
        assert put(client, "JPEGImages/b.jpg", "none", boxes=[BOX]).status_code == 423
    assert not (folder / ".maskwatch-label").exists()


def test_pictures_are_upright_and_cached(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (100, 60), "blue")
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "old.bmp")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with client_of(tmp_path) as client:
        plain = client.get(f"{API}/images/plain.png")
        assert (plain.headers["content-type"], plain.content) == (
            "image/png",
            (tmp_path / "plain.png").read_bytes(),
        )
        for name, size in (("turned.jpg", (60, 100)), ("old.bmp", (100, 60))):
            answer = client.get(f"{API}/images/{name}")
            assert answer.headers["content-type"] == "image/jpeg"
            shown = Image.open(io.BytesIO(answer.content))
            assert (shown.size, shown.getexif().get(0x0112)) == (size, None)
            row = picture(client, name)
            assert (row["width"], row["height"]) == size
        tag = {"If-None-Match": plain.headers["etag"]}
        assert client.get(f"{API}/images/plain.png", headers=tag).status_code == 304
        assert client.get(f"{API}/thumbnails/plain.png", headers=tag).status_code == 200
        assert plain.headers["cache-control"] == "private, no-cache"
        broken = client.get(f"{API}/images/broken.jpg")
        assert (broken.status_code, picture(client, "broken.jpg")["width"]) == (422, 0)


# ---- Proposals and suspects ------------------------------------------------------------------------------


def test_proposals_come_and_are_kept(faces: Path, tiny_model: Path) -> None:
    with client_of(faces, model=str(tiny_model)) as client:
        found = until(lambda: picture(client, "a.png")["proposals"])
        assert {(p["class"], tuple(p["box_xyxy"])) for p in found} == {
            ("mask", (16, 0, 32, 16)), ("no_mask", (0, 32, 16, 48)), ("mask_incorrect", (48, 48, 64, 64))
        }  # fmt: skip
        assert all(0 <= p["score"] <= 1 for p in found)
        until(lambda: client.server.session.proposer.left == 0)  # type: ignore[attr-defined]
        assert picture(client, "c.png")["proposals"] == []
        rows = client.get(f"{API}/pictures").json()["pictures"]
        assert [row["image_id"] for row in rows][-1] == "c.png"  # the model is sure that there is nothing
        assert all(row["uncertainty"] is not None for row in rows)
    (cache,) = (faces / ".maskwatch-label").glob("proposals-*.jsonl")
    before = cache.read_bytes()
    with client_of(faces, model=str(tiny_model)) as client:
        assert until(lambda: picture(client, "a.png")["proposals"]) == found
    assert cache.read_bytes() == before


def test_the_picture_that_is_shown_is_the_next_one(faces: Path, tiny_model: Path) -> None:
    from maskwatch.label.proposals import Proposer, open_model

    project = open_project(faces)
    model = open_model(str(tiny_model), project.classes, None)
    assert model is not None
    order: list[str] = []
    proposer = Proposer(model, project.pictures, project.classes.names, None, order.append)
    proposer.request(project.pictures[1])
    proposer.request(project.pictures[2])
    proposer.start()
    until(lambda: proposer.left == 0)
    proposer.stop()
    assert order == ["c.png", "b.png", "a.png"]


def test_a_score_below_which_nothing_is_proposed(faces: Path, tiny_model: Path) -> None:
    with client_of(faces, model=str(tiny_model), min_score=1.0) as client:
        until(lambda: client.server.session.proposer.left == 0)  # type: ignore[attr-defined]
        assert picture(client, "a.png")["proposals"] == []


def test_a_model_must_know_a_class(faces: Path, tiny_model: Path) -> None:
    settings = LabelSettings(faces, TOKEN, ClassMap(["helmet"]), str(tiny_model))
    problem = "cannot propose helmet. Label some pictures without --model, train .* --classes helmet=mask$"
    with pytest.raises(OptionError, match=problem):
        LabelServer(settings)
    with pytest.raises(OptionError, match="--min-score 2"):
        LabelServer(LabelSettings(faces, TOKEN, min_score=2, model=str(tiny_model)))


def suspect_of(client: TestClient, name: str, kind: str) -> dict[str, Any]:
    return dict(until(lambda: [s for s in picture(client, name)["suspects"] if s["kind"] == kind])[0])


def label_street(client: TestClient) -> None:
    """The green cell is labelled with another class, the red one is right, grey is labelled, blue is not."""
    boxes = [("no_mask", [16, 0, 32, 16]), ("no_mask", [0, 32, 16, 48]), ("mask", [40, 0, 60, 20])]
    sent = [{"id": None, "box_xyxy": box, "class": name} for name, box in boxes]
    assert put(client, "a.png", "none", boxes=sent).status_code == 200


def decide(client: TestClient, suspect: dict[str, Any], decision: str, **more: str) -> Any:
    return post(client, suspect["id"], decision, picture(client, "a.png")["revision"], **more)


def test_suspects_are_decided_once(faces: Path, tiny_model: Path) -> None:
    with client_of(faces, model=str(tiny_model), by="Ann") as client:
        label_street(client)
        wrong = suspect_of(client, "a.png", "class")
        assert (wrong["label"], wrong["answer"], wrong["box_xyxy"]) == ("no_mask", "mask", [16, 0, 32, 16])
        assert suspect_of(client, "a.png", "missing")["answer"] == "mask_incorrect"
        assert suspect_of(client, "a.png", "no_face")["label"] == "mask"
        assert client.get(f"{API}/project").json()["counts"]["suspects"] == 3
        stale = post(client, wrong["id"], "answer", "old")
        assert stale.status_code == 412
        assert stale.json()["current"]["image_id"] == "a.png"
        answer = decide(client, wrong, "answer")
        assert {tuple(box["box_xyxy"]): box["class"] for box in answer.json()["boxes"]}[
            16, 0, 32, 16
        ] == "mask"
        decide(client, suspect_of(client, "a.png", "no_face"), "answer")
        decide(client, suspect_of(client, "a.png", "missing"), "label", reason=" a poster ")
        now = picture(client, "a.png")
        assert (len(now["boxes"]), now["suspects"]) == (2, [])
        assert decide(client, wrong, "label").status_code == 404
    with client_of(faces, model=str(tiny_model)) as client:  # never asked again
        until(lambda: client.server.session.proposer.left == 0)  # type: ignore[attr-defined]
        assert picture(client, "a.png")["suspects"] == []
    text = (faces / ".maskwatch-label" / "decisions.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["decision"] for row in rows] == ["answer", "answer", "label"]
    assert [(row["by"], row.get("reason")) for row in rows] == [("Ann", None)] * 2 + [("Ann", "a poster")]


def test_decisions_go_to_a_corrections_file(faces: Path, tiny_model: Path) -> None:
    with client_of(faces, model=str(tiny_model)) as client:
        label_street(client)
    before, file = (faces / "a.xml").read_bytes(), faces.parent / "corrections.csv"
    with client_of(faces, model=str(tiny_model), corrections=file) as client:
        assert client.get(f"{API}/project").json()["decisions"] == "corrections"
        assert put(client, "c.png", "none", boxes=[BOX]).status_code == 423
        for kind in ("class", "missing", "no_face"):
            assert decide(client, suspect_of(client, "a.png", kind), "answer").status_code == 200
        assert picture(client, "a.png")["suspects"] == []
    assert (faces / "a.xml").read_bytes() == before
    from maskwatch.data import correct, read_corrections, read_data

    (sample,) = correct(read_data(faces, image_ids=["a"]), read_corrections(file)).samples
    boxes = zip(map(tuple, sample.boxes_xyxy.tolist()), sample.class_ids.tolist(), strict=True)
    assert {*boxes} == {
        ((16, 0, 32, 16), 0), ((0, 32, 16, 48), 1), ((48, 48, 64, 64), 2)
    }  # fmt: skip
    assert file.read_text().splitlines()[0] == "picture,fault,class,xmin,ymin,xmax,ymax"


def test_suspects_of_a_file(faces: Path) -> None:
    listed = faces.parent / "suspects.csv"
    listed.write_text(
        "picture,fault,class,xmin,ymin,xmax,ymax\na,class,mask,0,32,16,48\na,box,no_mask,1,33,20,50\nb,missing,mask,1,2,9,9\n"
    )
    with client_of(faces, suspects=listed) as client:
        assert [s["kind"] for s in picture(client, "b.png")["suspects"]] == ["missing"]
        sent = {"id": None, "box_xyxy": [0, 32, 16, 48], "class": "no_mask"}
        put(client, "a.png", "none", boxes=[sent])
        shown = picture(client, "a.png")["suspects"]
        assert [(s["kind"], s["label"], s["answer"], s["score"]) for s in shown] == [
            ("class", "no_mask", "mask", None), ("box", "no_mask", "no_mask", None)
        ]  # fmt: skip
        (box,) = decide(client, shown[1], "answer").json()["boxes"]
        assert box["box_xyxy"] == [1, 33, 20, 50]
    with client_of(faces, suspects=faces.parent) as client:  # a report's folder
        assert [s["kind"] for s in picture(client, "b.png")["suspects"]] == ["missing"]
    listed.write_text("picture,fault,class,xmin,ymin,xmax,ymax\nelsewhere,class,mask,0,32,16,48\n")
    with pytest.raises(DataError, match="names none of these pictures"), client_of(faces, suspects=listed):
        pass


def test_a_picture_is_done_when_all_proposals_are_decided(faces: Path, tiny_model: Path) -> None:
    def row(client: TestClient) -> tuple[str, int, int]:
        found = client.get(f"{API}/pictures?q=a.png").json()["pictures"][0]
        return found["state"], found["undecided"], client.get(f"{API}/project").json()["counts"]["done"]

    with client_of(faces, model=str(tiny_model)) as client:
        one, other, last = until(lambda: picture(client, "a.png")["proposals"])
        box = {"id": None, "box_xyxy": one["box_xyxy"], "class": one["class"]}
        saved = put(client, "a.png", "none", boxes=[box], undecided=[last], refused=[other])
        assert (saved.json()["state"], saved.json()["undecided"]) == ("labelled", 1)
        assert row(client) == ("labelled", 1, 0)
        assert client.server.session.progress()["done"] == 0  # type: ignore[attr-defined]
    with client_of(faces, model=str(tiny_model)) as client:
        until(lambda: client.server.session.proposer.left == 0)  # type: ignore[attr-defined]
        assert row(client) == ("labelled", 1, 0)
        now = picture(client, "a.png")
        assert (now["proposals"], now["refused"], now["suspects"]) == ([last], [other], [])
        drawn = {"id": None, "box_xyxy": last["box_xyxy"], "class": last["class"]}
        answer = put(client, "a.png", now["revision"], boxes=[*now["boxes"], drawn], refused=[other])
        assert answer.json()["undecided"] == 0
        assert row(client) == ("labelled", 0, 1)
        assert picture(client, "a.png")["suspects"] == []  # the refused one is not asked about again


@pytest.mark.parametrize("kind", FOLDERS)
def test_deciding_some_proposals_of_a_file_keeps_the_others(tmp_path: Path, kind: str) -> None:
    store = LabelStore(open_project(FOLDERS[kind](tmp_path)))
    one = next(p for p in store.project.pictures if p.image_id.endswith("b.jpg"))
    name = store.project.classes.names[0]
    boxes = [LabelBox((float(x), 6, x + 20.0, 30), name) for x in (5, 35, 65)]
    store.save(one, boxes, store.read(one).revision, mark="proposed")
    content = one.annotation.read_bytes()

    def lefts() -> list[int]:
        return [round(p["box_xyxy"][0]) for p in picture(client, one.image_id)["proposals"]]

    with client_of(tmp_path, classes=None) as client:
        before = picture(client, one.image_id)
        first, *rest = before["proposals"]
        revision = put(client, one.image_id, before["revision"], boxes=[], undecided=rest, refused=[first])
        assert one.annotation.read_bytes() == content  # it still holds proposals only
        assert (lefts(), revision.json()["state"]) == ([35, 65], "unlabelled")
        box = {"id": None, "box_xyxy": rest[0]["box_xyxy"], "class": name}
        put(client, one.image_id, before["revision"], boxes=[box], undecided=rest[1:], refused=[first])
    with client_of(tmp_path, classes=None) as client:
        now = picture(client, one.image_id)
        assert (len(now["boxes"]), lefts(), now["undecided"]) == (1, [65], 1)
        put(client, one.image_id, now["revision"], boxes=[], undecided=rest, refused=[first])  # undone
        assert lefts() == [35, 65]
        other = LabelStore(open_project(tmp_path))  # another program labels the rest
        drawn = [LabelBox(box.box_xyxy, name) for box in boxes[1:]]
        other.save(one, drawn, other.read(one).revision)
        assert picture(client, one.image_id)["undecided"] == 0


def test_near_duplicates_come_last(shared: Path, tmp_path: Path) -> None:
    source = next((shared / "data" / "masks" / "test").glob("*.jpg"))
    image = Image.open(source)
    for name, quality in (("a", 95), ("b", 60)):
        image.save(tmp_path / f"{name}.jpg", quality=quality)
    draw(tmp_path, "c.jpg")
    for _ in range(2):  # the second time from the cache
        with client_of(tmp_path) as client:
            until(lambda: client.server.session.finder.left == 0)  # type: ignore[attr-defined]
            rows = client.get(f"{API}/pictures").json()["pictures"]
            assert [(row["image_id"], row["duplicate_of"]) for row in rows] == [
                ("a.jpg", None), ("c.jpg", None), ("b.jpg", "a.jpg")
            ]  # fmt: skip


# ---- Folders as people have them -------------------------------------------------------------------------

ODD_NAMES = (
    "new\nline.jpg", "ctrl\x01.jpg", "ha#sh?.jpg", "quo'te\".jpg", "<tag>&amp;.jpg", "ümläut.jpg",
    "back\\slash.jpg",
    "n" * 251 + ".jpg", "字" * 83 + ".jpg",
)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="the system allows none of these names")
def test_any_name_of_a_picture_can_be_labelled(tmp_path: Path) -> None:
    """Also one of other bytes than UTF-8, where the file system allows it."""
    draw(tmp_path, *ODD_NAMES)
    latin = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with contextlib.suppress(OSError):  # macOS
        Path(os.fsdecode(latin)).write_bytes((tmp_path / ODD_NAMES[0]).read_bytes())
    for _ in range(2):
        with client_of(tmp_path) as client:
            names = [row["image_id"] for row in client.get(f"{API}/pictures").json()["pictures"]]
            assert {*ODD_NAMES} <= {*names}
            for name in names:
                before = picture(client, quote(name))
                assert client.get(f"{API}/thumbnails/{quote(name)}").status_code == 200
                answer = put(client, quote(name), before["revision"], boxes=[BOX])
                assert answer.status_code == 200, answer.text
                assert len(picture(client, quote(name))["boxes"]) == 1


def test_pictures_of_one_stem_have_a_file_each(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg", "a.png", "a.bmp")
    for count in (1, 2):
        with client_of(tmp_path) as client:
            for name in ("a.jpg", "a.png", "a.bmp"):
                before = picture(client, name)
                assert len(before["boxes"]) == count - 1
                boxes = [BOX | {"box_xyxy": [n, n, n + 9, n + 9]} for n in range(count)]
                assert put(client, name, before["revision"], boxes=boxes).status_code == 200
    assert len([*tmp_path.glob("*.xml")]) == 3


def test_pictures_that_arrive_or_go_while_it_runs(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg", "b.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:20])  # still being copied
    with client_of(tmp_path) as client:
        assert "not a picture" in picture(client, "a.jpg")["note"]
        assert put(client, "a.jpg", "none", boxes=[BOX]).status_code == 423
        (tmp_path / "a.jpg").write_bytes(whole)
        assert picture(client, "a.jpg")["note"] is None
        assert put(client, "a.jpg", "none", boxes=[BOX]).status_code == 200
        (tmp_path / "b.jpg").unlink()
        assert "no such file" in picture(client, "b.jpg")["note"]
        assert put(client, "b.jpg", "none", boxes=[BOX]).status_code == 423


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_a_moving_picture_the_first_frame_is_shown(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (100, 60), color) for color in ("red", "blue")]
    name = f"moving.{kind.lower()}"
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
    with client_of(tmp_path) as client:
        shown = Image.open(io.BytesIO(client.get(f"{API}/images/{name}").content))
    assert getattr(shown, "n_frames", 1) == 1
    assert shown.convert("RGB").getpixel((50, 30))[0] > 200  # type: ignore[index]


@pytest.mark.parametrize("kind", FOLDERS)
def test_proposals_accepted_as_they_are_become_labels(tmp_path: Path, kind: str) -> None:
    """A YOLO file does not change then."""
    store = LabelStore(open_project(FOLDERS[kind](tmp_path)))
    one = next(p for p in store.project.pictures if p.image_id.endswith("b.jpg"))
    name = store.project.classes.names[0]
    store.save(one, [LabelBox((5, 6, 25, 30), name)], store.read(one).revision, mark="proposed")
    with client_of(tmp_path, classes=None) as client:
        before = picture(client, one.image_id)
        assert (before["state"], len(before["proposals"])) == ("unlabelled", 1)
        done = client.get(f"{API}/project").json()["counts"]["done"]
        box = {"id": None, "box_xyxy": before["proposals"][0]["box_xyxy"], "class": name}
        assert put(client, one.image_id, before["revision"], boxes=[box]).status_code == 200
        after = picture(client, one.image_id)
        assert (after["state"], len(after["boxes"])) == ("labelled", 1)
        assert client.server.session.progress()["done"] == done + 1  # type: ignore[attr-defined]


def test_a_correction_is_added_to_a_file_without_a_last_line_break(tmp_path: Path) -> None:
    head = "picture,fault,class,xmin,ymin,xmax,ymax\n"
    listed, file = tmp_path / "suspects.csv", tmp_path / "corrections.csv"
    listed.write_text(f"{head}a,class,no_mask,1,2,30,40\n")
    file.write_text(f"{head}elsewhere,missing,mask,1,2,30,40")
    folder = voc_folder(tmp_path / "set")
    with client_of(folder, classes=None, suspects=listed, corrections=file) as client:
        (suspect,) = picture(client, "JPEGImages/a.jpg")["suspects"]
        revision = picture(client, "JPEGImages/a.jpg")["revision"]
        assert post(client, suspect["id"], "answer", revision).status_code == 200
    assert [row.split(",")[0] for row in file.read_text().splitlines()[1:]] == [
        "elsewhere",
        "JPEGImages/a.jpg",
    ]
    file.write_text("a,b,c\n")
    with pytest.raises(DataError, match="the first line must be"):
        LabelServer(LabelSettings(folder, TOKEN, corrections=file))


def test_the_hidden_folder_may_be_odd_or_go(tmp_path: Path) -> None:
    """Rows of another program are skipped, and what is decided after it was deleted is remembered."""
    listed, folder = tmp_path / "suspects.csv", voc_folder(tmp_path / "set")
    head = "picture,fault,class,xmin,ymin,xmax,ymax\n"
    listed.write_text(f"{head}a,class,no_mask,1,2,30,40\na,missing,mask,60,41,90,59\n")
    hidden, name = folder / ".maskwatch-label", "JPEGImages/a.jpg"
    hidden.mkdir()
    (hidden / "decisions.jsonl").write_text('{"image_id": "a"}\nnull\n[1]\n' + "x" * 2000 + "\n")
    with client_of(folder, classes=None, suspects=listed) as client:
        first, second = picture(client, name)["suspects"]
        (hidden / "decisions.jsonl").unlink()
        for left, suspect in ((1, first), (0, second)):
            assert post(client, suspect["id"], "label", picture(client, name)["revision"]).status_code == 200
            assert len(picture(client, name)["suspects"]) == left


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"[" * 50_000, b'{"boxes": NaN}', b'{"\xff": 1}', b'{"boxes": [[]]}',
        b'{"boxes": [{"box_xyxy": [NaN, 1, 2, 3], "class": "mask"}]}',
        b'{"boxes": [{"box_xyxy": [1e999, 1, 2, 3], "class": "mask"}]}',
        b'{"boxes": [{"box_xyxy": [' + b"9" * 5000 + b', 1, 2, 3], "class": "mask"}]}',
        b'{"boxes": [{"box_xyxy": [1, 1, 20, 30], "class": "\\ud800"}]}',
        b'{"boxes": [{"box_xyxy": [200, 1, 300, 30], "class": "mask"}]}',
    ],
)  # fmt: skip
def test_a_bad_body_changes_nothing(tmp_path: Path, body: bytes) -> None:
    with client_of(voc_folder(tmp_path)) as client:
        path, headers = (
            f"{API}/pictures/JPEGImages/b.jpg",
            {"If-Match": "none", "Content-Type": "application/json"},
        )
        answer = client.put(path, content=body, headers=headers)
        assert answer.status_code in (400, 422)
        assert answer.json()["detail"]
        assert picture(client, "JPEGImages/b.jpg")["revision"] == "none"


def test_background_work_waits_for_answers() -> None:
    foreground, steps = Foreground(), []

    def work() -> None:
        foreground.wait()
        steps.append("background")

    with foreground.first():
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1)
        steps.append("answer")
    thread.join()
    assert steps == ["answer", "background"]


# ---- Access ----------------------------------------------------------------------------------------------


def test_the_token_becomes_a_cookie(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    with client_of(tmp_path) as client:
        del client.headers["Authorization"]
        assert client.get(f"{API}/project").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert re.fullmatch(
            rf"maskwatch_label_\d+={TOKEN}; HttpOnly; Path=/; SameSite=strict", answer.headers["set-cookie"]
        )
        assert client.get(f"{API}/project").status_code == 200
        page = client.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for response in (page, client.get(f"{API}/project")):
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert response.headers["x-content-type-options"] == "nosniff"


def test_other_hosts_and_pages_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "a.jpg")
    with client_of(tmp_path) as client:
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
        other = client.get(f"{API}/project", headers={"Origin": "http://evil.example"})
        assert other.status_code == 403
        assert client.get(f"{API}/project", headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_the_service_and_the_labeller_have_a_page_each(tmp_path: Path) -> None:
    from fastapi import FastAPI

    from maskwatch.serve.api.page import mount_page

    for name in ("index.html", "label.html"):
        (tmp_path / name).write_text(name)
    for index, other in (("index.html", "label.html"), ("label.html", "index.html")):
        app = FastAPI()
        mount_page(app, folder=tmp_path, index=index)
        client = TestClient(app)
        assert client.get("/").text == index
        assert client.get(f"/{other}").status_code == 404


@pytest.mark.parametrize(
    ("given", "message"), [({"port": 70000}, "--port 70000"), ({"token": "short"}, "MASKWATCH_TOKEN")]
)
def test_settings_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LabelSettings(**{"folder": Path(), "token": TOKEN, **given})


def test_the_token_is_in_no_text_of_the_settings() -> None:
    assert TOKEN not in repr(LabelSettings(Path(), TOKEN))
    assert Authenticator(TOKEN).accepts(f"Bearer {TOKEN}")


# ---- Parts -----------------------------------------------------------------------------------------------


def test_pace_leaves_out_pauses_and_waits_until_it_means_something() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])

    def add(boxes: int, after_s: float) -> float | None:
        now[0] += after_s
        pace.add(boxes)
        return pace.boxes_per_hour()

    add(50, 0)  # how long the first picture took is not known
    assert add(LEAST_BOXES, LEAST_S / 3) is None  # too short
    assert add(20 - LEAST_BOXES, LEAST_S / 3) is None
    assert add(0, LEAST_S / 3) == 20 / LEAST_S * 3600
    assert add(30, PAUSE_S + 1) == 20 / LEAST_S * 3600
    assert add(-15, 1) is None  # too few


def test_thumbnails_in_memory_are_bounded() -> None:
    cache = ImageCache(100)
    for name in "abc":
        cache.put(name, EncodedImage(bytes(40), "image/jpeg"))
        cache.get("a")
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]


def test_changes_reach_windows_from_any_thread() -> None:
    import asyncio

    async def listen() -> list[bytes]:
        changes = Changes()
        changes.attach(asyncio.get_running_loop())
        got = []
        async for part in changes.listen(sse("progress", {"done": 1})):
            got.append(part)
            if len(got) == 1:
                threading.Thread(target=changes.publish, args=("picture", {"image_id": "a"})).start()
            else:
                changes.close()
        return got

    assert asyncio.run(listen()) == [
        b'event: progress\ndata: {"done": 1}\n\n', b'event: picture\ndata: {"image_id": "a"}\n\n'
    ]  # fmt: skip


# ---- The command -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def command(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`maskwatch label` on a free port, and its address."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASKWATCH_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}
    line = [sys.executable, "-m", "maskwatch", "label", str(folder), "--port", "0", "--no-open", *options]
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            found = re.search(r"at (http://\S+)/\?token=\S+ \(Ctrl-C ends it\)$", first)
            assert found, f"{first!r} {process.stderr.read() if process.poll() is not None else ''}"
            yield process, found[1]
        finally:
            process.kill()


def ask(address: str, path: str, body: object = None, revision: str = "") -> Any:
    headers = {**BEARER, "Content-Type": "application/json", "If-Match": revision}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{API}/{path}", data, headers, method="PUT" if data else "GET")
    with urllib.request.urlopen(request, timeout=LONG_S) as answer:
        return json.load(answer)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path, kind: str) -> None:
    folder = FOLDERS[kind](tmp_path)
    names = [f"n{number}.jpg" for number in range(4)]
    draw(folder / ("JPEGImages" if kind == "voc" else "images"), *names)
    sent: dict[str, int] = dict.fromkeys(names, 0)
    saved: dict[str, int] = dict.fromkeys(names, 0)

    def write(address: str, name: str) -> None:
        """Saves 1, 2, 3 … boxes until the server is gone."""
        path, revision = f"pictures/{'JPEGImages' if kind == 'voc' else 'images'}/{name}", "none"
        with contextlib.suppress(OSError):
            while True:
                sent[name] += 1
                boxes = [BOX | {"box_xyxy": [n, n, n + 9, n + 9]} for n in range(sent[name] % 40 + 1)]
                revision = ask(address, path, {"boxes": boxes}, revision)["revision"]
                saved[name] = sent[name]

    with command(folder, "--classes", "mask,no_mask,other") as (process, address):
        threads = [threading.Thread(target=write, args=(address, name)) for name in names]
        for thread in threads:
            thread.start()
        until(lambda: min(saved.values()) > 3)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join()
    store = LabelStore(open_project(folder))
    for one in store.project.pictures:
        annotation, name = store.read(one), Path(one.image_id).name
        assert annotation.problem is None
        if name in sent:  # what was acknowledged last, or what was on its way
            assert len(annotation.boxes) in {saved[name] % 40 + 1, sent[name] % 40 + 1}


def test_ctrl_c_ends_the_command_and_its_streams(tmp_path: Path) -> None:
    """On a folder whose lock a killed process has held."""
    draw(tmp_path, "a.jpg")
    (tmp_path / ".maskwatch-label").mkdir()
    (tmp_path / ".maskwatch-label" / "lock").touch()
    with command(tmp_path, "--classes", "thing") as (process, address):
        assert ask(address, "pictures/a.jpg", {"boxes": [BOX | {"class": "thing"}]}, "none")["boxes"]
        request = urllib.request.Request(f"{address}{API}/changes", headers=BEARER)
        with urllib.request.urlopen(request, timeout=LONG_S) as stream:
            assert stream.readline() == b"event: progress\n"
            process.send_signal(signal.SIGINT)
            stream.read()
        assert process.wait(LONG_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == f"maskwatch label: reading {tmp_path} …\n"


# ---- prelabel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FOLDERS)
def test_prelabel_writes_only_where_nothing_is(
    tmp_path: Path, kind: str, street: np.ndarray, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = FOLDERS[kind](tmp_path)
    home = folder / ("JPEGImages" if kind == "voc" else "images")
    Image.fromarray(street[:, :48]).save(home / "b.jpg", quality=100)  # green and red: known to all three
    before = {p.image_id: LabelStore(open_project(folder)).read(p) for p in open_project(folder).pictures}
    for _ in range(2):
        main_ok("data", "prelabel", str(folder), "--model", str(tiny_model))
    first, second = (line for line in capsys.readouterr().out.splitlines() if "with proposals" in line)
    assert " 1 with proposals (2 boxes)" in first
    assert " 0 with proposals (0 boxes)" in second
    store = LabelStore(open_project(folder))
    for one in store.project.pictures:
        now = store.read(one)
        if one.image_id.endswith("b.jpg"):
            assert (now.state, {box.name for box in now.proposals}) == ("unlabelled", {"mask", "no_mask"})
        else:
            assert now.boxes == before[one.image_id].boxes
    with client_of(folder) as client:
        (name,) = (p.image_id for p in store.project.pictures if p.image_id.endswith("b.jpg"))
        shown = picture(client, name)
        assert (shown["boxes"], len(shown["proposals"])) == ([], 2)
        assert "no one has looked at them" in shown["note"]


def main_ok(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)


def test_prelabel_needs_a_model_for_other_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, "a.jpg")
    with pytest.raises(SystemExit):
        main(["data", "prelabel", str(tmp_path), "--classes", "helmet"])
    assert "does not know helmet; give one that does with --model FILE" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.xml"))


def test_a_wrong_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MaskwatchError, match="no pictures"):
        LabelServer(LabelSettings(tmp_path, TOKEN))
    coco = coco_folder(tmp_path / "coco")
    (coco / "instances.json").write_text('{"images": [], "annotations": [')
    with pytest.raises(DataError, match="not readable as JSON"):
        LabelServer(LabelSettings(coco, TOKEN))

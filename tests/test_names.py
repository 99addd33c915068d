"""Which picture a written name means."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.data.names import NameIndex, path_parts, sort_key, without_suffix

TWO_CAMERAS = ("cam1/0001.jpg", "cam2/0001.jpg", "cam1/0002.jpg", "0003.jpg", "cam1/0003.jpg")


def names(*written: str) -> NameIndex[str]:
    return NameIndex((name, name, (f"/data/set/{name}",)) for name in written)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cam1/0001.jpg", ["cam1/0001.jpg"]),
        ("cam1/0001", ["cam1/0001.jpg"]),
        ("cam1\\0001.JPG", ["cam1/0001.jpg"]),
        ("./cam1/0001.xml", ["cam1/0001.jpg"]),
        ("cam1/0001.png", ["cam1/0001.jpg"]),  # saved again as another kind of picture
        ("set/cam2/0001", ["cam2/0001.jpg"]),  # the folders above count as well
        ("0001", ["cam1/0001.jpg", "cam2/0001.jpg"]),
        ("0002", ["cam1/0002.jpg"]),
        ("0003", ["0003.jpg"]),  # the whole name of one
        ("cam3/0001", []),
        ("am1/0001", []),
        ("1", []),
        ("", []),
        ("/", []),
    ],
)
def test_as_much_of_the_path_as_is_needed(name: str, found: list[str]) -> None:
    assert names(*TWO_CAMERAS).find(name) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("data/obj_train_data/cam1/0001.jpg", ["cam1/0001.jpg"]),
        ("C:\\Users\\me\\cam2\\0001.jpg", ["cam2/0001.jpg"]),
        ("upload/1/0003.jpg", ["0003.jpg"]),
        ("cam3/0001.jpg", []),  # never another camera's
        ("cam3/0003.jpg", ["0003.jpg"]),
    ],
)
def test_loosely_folders_of_elsewhere_may_come_first(name: str, found: list[str]) -> None:
    assert names(*TWO_CAMERAS).find(name, loose=True) == found
    assert names(*TWO_CAMERAS).find(name) == []


def test_dots_and_spaces_belong_to_the_name() -> None:
    known = names("photo.v2.jpg", "photo.jpg", "my photo 1.png", "a.jpg", "a.jpg.png", "x.rf.0f.jpg")
    assert known.find("photo.v2") == ["photo.v2.jpg"]
    assert known.find("photo.v3") == []
    assert known.find("my photo 1") == ["my photo 1.png"]
    assert known.find("a.jpg") == ["a.jpg"]
    assert known.find("x.rf.0f") == ["x.rf.0f.jpg"]
    assert names("a.jpg", "a.png").find("a") == ["a.jpg", "a.png"]
    assert names("a.jpg", "a.png").find("a.PNG") == ["a.png"]


def test_a_list_has_one_name_or_several_in_a_line() -> None:
    known = names(*TWO_CAMERAS, "my photo.jpg")
    found = known.find_all(["my photo", "cam1/0001 cam1/0002", "cam2/0001\t0003", "", "nobody", "no one"])
    assert found.found == ["my photo.jpg", "cam1/0001.jpg", "cam1/0002.jpg", "cam2/0001.jpg", "0003.jpg"]
    assert found.missing == ["nobody", "no one"]
    assert found.ambiguous == []
    (text,) = known.find_all(["0001"]).ambiguous
    assert text == "'0001' may be any of cam1/0001.jpg, cam2/0001.jpg; write more of the path"


def test_pictures_of_one_name_are_told_apart_by_where_they_lie() -> None:
    known = NameIndex([(1, "a.jpg", ["/data/one/a.jpg"]), (2, "a.jpg", ["/data/two/a.jpg"])])
    assert known.find("two/a") == [2]
    assert known.ambiguous("a").startswith("'a' may be any of /data/one/a.jpg, /data/two/a.jpg")


def test_names_are_in_the_order_of_their_stems() -> None:
    assert sorted(["a-2.jpg", "b.jpg", "a.jpg"], key=sort_key) == ["a.jpg", "a-2.jpg", "b.jpg"]


part = st.text(st.characters(codec="utf-8", exclude_characters="/\\\n\r\t\0"), min_size=1, max_size=8).filter(
    lambda text: text.strip() == text and text not in (".", "..") and not text.startswith(" ")
)
paths = st.lists(part, min_size=1, max_size=3).map("/".join)


@given(st.lists(paths, min_size=1, max_size=6), st.sampled_from(["NFC", "NFD"]), st.sampled_from("/\\"))
def test_the_whole_path_always_finds_its_picture(written: list[str], form: str, slash: str) -> None:
    files = sorted({"/".join(path_parts(f"{name}.jpg")) for name in written})
    known = names(*files)
    for file in files:
        if path_parts(file) != tuple(file.split("/")):
            continue  # a drive of Windows
        asked = unicodedata.normalize(form, file).replace("/", slash)
        assert known.find(asked) == [file]
        assert known.find(asked, loose=True) == [file]
        assert file in known.find(without_suffix(asked))

"""Protobuf in text format, by hand, by round trips, and against protobuf's own printer."""

from __future__ import annotations

import math
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwatch.errors import DataError
from maskwatch.tf_compat import textproto
from maskwatch.tf_compat.label_map import read_label_map, write_label_map
from maskwatch.tf_compat.textproto import Word, parse

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=8)
WORDS = NAMES.filter(lambda name: name.lower() not in ("true", "false", "inf", "infinity", "nan"))
SCALARS = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | WORDS.map(Word)
)
MESSAGES = st.recursive(
    st.dictionaries(NAMES, st.lists(SCALARS, min_size=1, max_size=3), max_size=4),
    lambda inner: st.dictionaries(NAMES, st.lists(inner | SCALARS, min_size=1, max_size=3), max_size=3),
    max_leaves=8,
)


@given(MESSAGES)
@settings(deadline=None)
def test_written_and_read_again(message: textproto.Message) -> None:
    assert parse(textproto.write(message)) == message


def test_every_form_of_a_field() -> None:
    text = """
    # a comment { that opens nothing
    a: 1, b: -2.5; c: 1e-3f  d: 0x1F e: 017 f: -inf  # and another
    yes: true no: False enum: RELU_6
    text: "one " 'two \\'quoted\\'' "\\x41\\102\\n\\u00e9\\303\\251"
    list: [1, 2, 3] list: 4 empty: [] words: [RELU, RELU_6]
    braces { x: 1 } angles < x: 2 > colon: { x: 3 } many [ { x: 4 }, < x: 5 > ]
    [some.extension/name] { x: 6 }
    """
    assert parse(text) == {
        "a": [1], "b": [-2.5], "c": [0.001], "d": [31], "e": [15], "f": [-math.inf],
        "yes": [True], "no": [False], "enum": [Word("RELU_6")],
        "text": ["one two 'quoted'AB\néé"],
        "list": [1, 2, 3, 4], "empty": [],
        "words": [Word("RELU"), Word("RELU_6")],
        "braces": [{"x": [1]}], "angles": [{"x": [2]}], "colon": [{"x": [3]}],
        "many": [{"x": [4]}, {"x": [5]}],
        "[some.extension/name]": [{"x": [6]}],
    }  # fmt: skip


@given(st.text(), st.integers(-(2**31), 2**31 - 1), st.floats(width=32, allow_nan=False))
@settings(deadline=None)
def test_protobuf_prints_what_is_read(text: str, whole: int, real: float) -> None:
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import text_format

    option = descriptor.UninterpretedOption(double_value=real)
    option.name.add(name_part=text, is_extension=True)
    field = descriptor.FieldDescriptorProto(name=text, number=whole, label="LABEL_REPEATED")
    field.options.uninterpreted_option.append(option)
    expected_option = {"name": [{"name_part": [text], "is_extension": [True]}], "double_value": [real]}
    for printed in (
        text_format.MessageToString(field),
        text_format.MessageToString(field, as_utf8=True, as_one_line=True, pointy_brackets=True),
    ):
        read = parse(printed)
        assert read["name"] == [text]
        assert read["number"] == [whole]
        assert read["label"] == [Word("LABEL_REPEATED")]
        assert read["options"] == [{"uninterpreted_option": [expected_option]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb {\n c: 2", "line 3: the end of the text where a field or } should be"),
        ("a: 1\n}", "line 2: '}' where a field or the end should be"),
        ("a < b: 1 }", "line 1: '}' where a field or > should be"),
        ("a 1", "line 1: '1' where a colon should be"),
        ("a:\n\n:", "line 3: ':' where a value should be"),
        ("a: 1\n\nb: 'open\nc: 2", 'line 3: "\'open", which is no token'),
        ("a: [1 2]", "line 1: '2' where a comma or ] should be"),
        ("a: 12abc", "line 1: '12abc', which is no token"),
        ("a: -word", "line 1: '-word' where a value should be"),
        ("a: '\\377'", "line 1: a string before this that is not UTF-8"),
        ("a {" * 5000, "more than 100 deep"),
    ],
)
def test_what_is_wrong_is_named_by_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+: ") as raised:
        parse(text)
    assert message in str(raised.value)


@given(st.text(alphabet="ab:{}<>[]\"'\\#,; \n-0.x", max_size=40))
@settings(deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        message = parse(text)
    except ValueError:
        return
    kept = {name: values for name, values in message.items() if values}  # an empty list leaves no trace
    assert parse(textproto.write(kept)) == parse(textproto.write(parse(textproto.write(kept))))


def test_the_zoos_pipeline(shared: Path) -> None:
    folder = shared / "weights" / "ssd_mobilenet_v2_fpnlite_320x320_coco17_tpu-8"
    config = parse((folder / "pipeline.config").read_text())
    ssd = config["model"][0]["ssd"][0]  # type: ignore[index, call-overload]
    assert ssd["num_classes"] == [90]
    anchors = ssd["anchor_generator"][0]["multiscale_anchor_generator"][0]
    assert anchors["aspect_ratios"] == [1.0, 2.0, 0.5]
    assert len(config["train_config"][0]["data_augmentation_options"]) == 2  # type: ignore[index, call-overload]
    assert parse(textproto.write(config)) == config


# ---- label maps ------------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(1, 1000), st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_label_maps_written_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, names: dict[int, str]
) -> None:
    unique = {number: f"{number} {name}" for number, name in names.items()}
    path = tmp_path_factory.mktemp("maps") / "label_map.pbtxt"
    write_label_map(path, unique)
    read = read_label_map(path)
    assert read == unique
    assert list(read) == sorted(unique)


def test_label_maps_of_others(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(
        'item { name: "/m/01g317" id: 2 display_name: "person" }\n'
        "item {\n  id: 1\n  name: 'without_mask'\n}\nitem { id: 0 name: 'background' }\n"
        "item { id: 3 display_name: 'dog' }"
    )
    assert read_label_map(path) == {1: "without_mask", 2: "person", 3: "dog"}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["holds no item"]),
        ("item { id: 1", ["line 1: the end of the text"]),
        ("item: 3 item { id: 1 }", ["item 1 is 3", "item 2 has the name None"]),
        (
            "item { id: 0 name: 'a' } item { id: '1' name: 'b' }",
            ["('a') has the id 0", "('b') has the id '1'"],
        ),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", ["item 2 ('b') has the id 1 of 'a'"]),
        ("item { id: 1 name: 'a' } item { id: 2 name: 'a' }", ["item 2 names 'a' a second time"]),
    ],
)
def test_wrong_label_maps(text: str, problems: list[str], tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    with pytest.raises(DataError, match="cannot be read"):
        read_label_map(path)
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        read_label_map(path)
    assert len(raised.value.problems) == len(problems)
    for shown, expected in zip(raised.value.problems, problems, strict=True):
        assert expected in shown

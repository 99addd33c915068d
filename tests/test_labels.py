"""Two names are two classes; two spellings of one name are one."""

from __future__ import annotations

import pytest

from maskwatch.errors import LabelError
from maskwatch.labels import ClassMap, class_values, find_class, normalize, parse_class_numbers

APART = [
    ("戴口罩", "未戴口罩"),
    ("маска", "без маски"),
    ("ё", "е"),
    ("كمامة", "بدون كمامة"),
    ("マスク", "マスクなし"),
    ("が", "か"),
    ("é", "e"),
    ("C", "C++"),
    ("N95", "N95+"),
    ("mask", "mask?"),
    ("m²", "m2"),
    ("①", "1"),
    ("a.b", "ab"),
    ("?", "!"),
    ("-", "_"),
    ("😷", "😀"),
]
TOGETHER = [
    ("No Mask", "no-mask"),
    ("no_mask", "NOMASK"),
    ("МАСКА", "маска"),
    ("Straße", "STRASSE"),
    ("é", "e\u0301"),
    ("ＭＡＳＫ", "mask"),
    ("Ｎ　９５", "n-95"),
    ("ﾀﾞﾐｰ", "ダミー"),
    ("بدون\u200cماسک", "بدون ماسک"),
    ("with\u00a0mask", "with_mask"),
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_two_names_are_two_classes(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)
    classes = ClassMap([one, other])
    assert [classes.id_of(one), classes.id_of(other)] == [0, 1]
    with pytest.raises(LabelError):
        ClassMap([one]).id_of(other)


@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_two_spellings_are_one_class(one: str, other: str) -> None:
    assert ClassMap(["x", one]).id_of(other) == 1
    with pytest.raises(LabelError, match="named twice"):
        ClassMap([one, other])


def test_classes_of_any_script_are_named_on_the_command_line() -> None:
    assert ClassMap.parse("戴口罩,未戴口罩").names == ("戴口罩", "未戴口罩")
    classes = ClassMap.parse("mask=戴口罩,no_mask=未戴口罩|不戴")
    assert [classes.id_of(name) for name in ("戴口罩", "未戴口罩", "不戴", "With-Mask")] == [0, 1, 1, 0]


def test_names_may_hold_the_signs_of_the_option() -> None:
    classes = ClassMap.parse(r"a\,b=x\|y|z,c\=d")
    assert classes.names == ("a,b", "c=d")
    assert classes.id_of("x|y") == classes.id_of("z") == 0
    assert ClassMap.parse(str(classes)).names == classes.names


@pytest.mark.parametrize("text", ["mask=a,no_mask=a", "mask=a b,no_mask=A-B", "helmet=head,head", "a,=A"])
def test_a_spelling_of_two_classes_is_refused(text: str) -> None:
    with pytest.raises(LabelError, match="given to two classes"):
        ClassMap.parse(text)


def test_a_given_spelling_wins_over_a_built_in_one() -> None:
    assert ClassMap.parse("mask,no_mask=masked").id_of("masked") == 1


def test_hints_are_spelt_as_people_write_them() -> None:
    with pytest.raises(LabelError, match="did you mean 'no_mask'"):
        ClassMap().id_of("no_msk")
    assert ClassMap(["Kein Helm"]).nearest("keinhelmm", 0.8) == "Kein Helm"


def test_a_class_is_found_by_any_spelling_its_own_first() -> None:
    assert find_class(["a b", "AB"], "AB") == 1
    assert find_class(["a b", "AB"], "ab") == 0
    assert find_class(["a b"], "a+b") is None


def test_a_number_belongs_to_the_name_before_the_last_equals_sign() -> None:
    assert parse_class_numbers("a=b=0.5, C++ =0.2") == {"a=b": 0.5, "C++": 0.2}


def test_values_of_classes() -> None:
    names, defaults = ("mask", "no_mask"), (0.5, 0.4)
    assert class_values(names, {"No Mask": 0.9}, defaults) == (0.5, 0.9)
    assert class_values(names, {}, defaults) == defaults
    with pytest.raises(KeyError, match="helmet"):
        class_values(names, {"mask": 0.1, "helmet": 0.9}, defaults)

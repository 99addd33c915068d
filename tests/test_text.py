"""Files in any encoding are one text, and what is in none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwatch.errors import DataError, OptionError
from maskwatch.text import (
    as_float,
    decode_text,
    first_line,
    parse_xml,
    read_lines,
    read_rows,
    read_text,
    reading,
)

NAMES = {
    "gb2312": "戴口罩",
    "GBK": "戴口罩，镕",
    "gb18030": "戴口罩㐀",
    "cp936": "戴口罩",
    "big5": "戴口罩，未",
    "x-big5": "戴口罩",
    "shift_jis": "マスクなし①",
    "x-sjis": "マスク",
    "windows-31j": "マスク",
    "EUC-JP": "マスク着用",
    "euc-kr": "마스크",
    "ks_c_5601-1987": "마스크",
    "windows-949": "마스크뷁",
    "iso-8859-1": "sans masque, é",
    "windows-1250": "bez roušky",
    "windows-1251": "без маски",
    "koi8-r": "без маски",
    "windows-1253": "μάσκα",
    "iso-8859-9": "maskesiz, ş",
    "windows-1255": "מסכה",
    "windows-1256": "كمامة",
    "windows-874": "หน้ากาก",
    "us-ascii": "mask",
    "utf-8": "戴口罩 é маска",
    "iso-2022-jp": "マスク",
}
CODECS = {
    "x-big5": "big5",
    "x-sjis": "cp932",
    "shift_jis": "cp932",
    "windows-31j": "cp932",
    "windows-949": "cp949",
    "windows-874": "cp874",
}


@pytest.mark.parametrize("declared", NAMES)
@pytest.mark.parametrize("quote", ["'", '"'])
def test_xml_is_read_as_it_declares(declared: str, quote: str) -> None:
    name = NAMES[declared]
    text = f"<?xml version='1.0' encoding={quote}{declared}{quote} ?>\n<a><name>{name}</name></a>"
    assert parse_xml(text.encode(CODECS.get(declared, declared))).findtext("name") == name


@pytest.mark.parametrize(
    "codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_told_by_mark_or_by_its_zeros(codec: str) -> None:
    text = "一 口罩\r\nsans masque é\r😷\n"
    for mark in ("", "\ufeff"):
        assert decode_text((mark + text).encode(codec)) == "一 口罩\nsans masque é\n😷\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-16-be", "utf-32-le"])
def test_what_the_bytes_are_wins_over_the_declaration(codec: str) -> None:
    text = "<?xml version='1.0' encoding='utf-16'?><a><name>口罩 é</name></a>"
    assert parse_xml(text.encode(codec)).findtext("name") == "口罩 é"


def test_utf_8_that_declares_pairs_of_bytes_is_utf_8() -> None:
    # Twelve bytes, which GBK reads as six other characters without an error.
    name = "未戴口罩"
    assert name.encode().decode("gb18030") != name
    assert parse_xml(f"<?xml version='1.0' encoding='gb2312'?><a>{name}</a>".encode()).text == name


def test_pairs_of_bytes_that_happen_to_be_utf_8_are_what_they_declare() -> None:
    # 图片 in GBK is ͼƬ in UTF-8.
    assert "图片".encode("gbk").decode("utf-8") == "ͼƬ"
    assert parse_xml("<?xml version='1.0' encoding='gb2312'?><a>图片</a>".encode("gbk")).text == "图片"


def test_a_declaration_that_disproves_itself_leaves_utf_8() -> None:
    for declared in ("utf-16", "utf-32-be", "cp037"):
        assert parse_xml(f"<?xml version='1.0' encoding='{declared}'?><a>é</a>".encode()).text == "é"


@pytest.mark.parametrize("declared", ["klingon", "idna", "hex", "rot13", "punycode", "utf-7"])
def test_a_declaration_of_no_encoding_is_refused(declared: str) -> None:
    with pytest.raises(UnicodeError, match=f"{declared}.*not known; save it as UTF-8"):
        parse_xml(f"<?xml version='1.0' encoding='{declared}'?><a>é</a>".encode())


@pytest.mark.parametrize("data", ["口罩".encode("gbk"), "é".encode("latin-1"), b"\xff\xd8\xff\xe0", b"a\0b"])
def test_what_is_in_no_encoding_is_refused_with_a_way_out(data: bytes) -> None:
    with pytest.raises(UnicodeError, match=r"; get a whole copy"):
        decode_text(data)


def test_a_wrong_declaration_names_both() -> None:
    with pytest.raises(UnicodeError, match=r"0xFF in line 2 is not UTF-8 nor GB18030; .* declare"):
        parse_xml(b"<?xml version='1.0' encoding='gbk'?>\n<a>\xff\xff</a>")


def test_the_line_of_a_wrong_byte_is_named() -> None:
    with pytest.raises(UnicodeError, match="0xE9 in line 3"):
        decode_text(b"mask\nbare\ncaf\xe9\n")


def test_a_cut_off_utf_16_is_refused() -> None:
    with pytest.raises(UnicodeError, match="UTF-16"):
        decode_text("\ufeffmask".encode("utf-16-le")[:-1])


def test_marks_of_joined_files_are_dropped() -> None:
    assert decode_text("\ufeffa\r\n".encode() + "\ufeffb\r\n".encode()) == "a\nb\n"


def test_a_doctype_is_refused_in_every_encoding() -> None:
    for codec in ("utf-8", "utf-16", "utf-16-be", "utf-32"):
        with pytest.raises(ValueError, match="DOCTYPE"):
            parse_xml("<!DOCTYPE a []><a/>".encode(codec))


def test_lines_end_at_line_ends_only(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes("a\u2028b\x85c\x0bd\r\ne\rf\n".encode())
    assert read_lines(tmp_path / "names") == ["a\u2028b\x85c\x0bd", "e", "f"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_rows_are_read_with_the_separator_of_the_first_line(tmp_path: Path, mark: str) -> None:
    rows = f'stem{mark}source\r\n\r\na{mark}"b{mark} c"\r\n'
    (tmp_path / "rows.csv").write_bytes(rows.encode("utf-16"))
    assert list(read_rows(tmp_path / "rows.csv")) == [(1, ["stem", "source"]), (3, ["a", f"b{mark} c"])]


def test_a_field_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('a,b\n"' + "x" * 200_000)
    with pytest.raises(ValueError, match=r"line \d+: .*CSV"):
        list(read_rows(tmp_path / "rows.csv"))


def test_a_declaration_of_several_lines_keeps_the_count(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError, match="line 4"):
        parse_xml(b"\n<?xml version='1.0'\n encoding='utf-8'?>\n<a><b></a>")
    assert read_text(Path(__file__)).startswith('"""Files in any')


def test_what_cannot_be_read_names_file_reason_and_next_step(tmp_path: Path) -> None:
    with (
        pytest.raises(OptionError, match=r"^--list gone: cannot be read \(No such file.*\); check the path$"),
        reading("--list gone", OptionError, "check the path"),
    ):
        read_text(tmp_path / "gone")
    with pytest.raises(DataError) as caught, reading("names.txt", DataError, "write it again"):
        read_text("a\0b")
    assert caught.value.problems == ("names.txt: cannot be read (embedded null byte); write it again",)


def test_first_line_of_an_error() -> None:
    assert first_line(RuntimeError("one\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"


def test_a_number_that_no_float_holds_stays_whole() -> None:
    assert isinstance(as_float(3), float)
    assert as_float(10**400) == 10**400

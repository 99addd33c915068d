"""Text files of users (annotations, lists, settings): their encoding is decided here and nowhere else.

In this order: a byte order mark; UTF-16 or UTF-32 without one; what an XML file declares; UTF-8. Any other
text is refused, because a guess could turn one name into two.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

# UTF-32's begins with UTF-16's, so it comes first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_UTF_16_OR_32 = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
_CONTROL = re.compile("[\0-\x08\x0e-\x1f]")
_DECLARED = re.compile(rb"\s*<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([A-Za-z][\w.:()-]*)[\"'][^>]*>")
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*>")
_THREE_BYTES = re.compile(rb"[\xe0-\xf4][\x80-\xbf]{2}")

# Declared name → codecs to try. Windows writes its extensions under the name of the standard, and browsers
# read them like this (https://encoding.spec.whatwg.org/#names-and-labels).
_CODECS_OF = {
    "ascii": ("utf-8",),
    "iso8859-1": ("cp1252", "iso8859-1"),
    "iso8859-9": ("cp1254", "iso8859-9"),
    "iso8859-11": ("cp874",),
    "tis-620": ("cp874",),
    "gb2312": ("gb18030",),
    "gbk": ("gb18030",),
    "big5": ("cp950", "big5hkscs"),
    "shift_jis": ("cp932", "shift_jis_2004"),
    "euc_jp": ("euc_jp", "euc_jis_2004"),
    "euc_kr": ("cp949",),
}
_MULTI_BYTE = ("gb", "big5", "cp950", "shift_jis", "cp932", "euc_", "cp949", "johab")
_OTHER_NAMES = {"windows-31j": "cp932", "mac-roman": "macroman"}
# Codecs of Python that no file uses.
_NOT_OF_FILES = ("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "utf-7")


def read_text(path: str | os.PathLike[str]) -> str:
    r"""The text of a file, with lines that end in `\n`, without byte order marks.

    Raises:
        OSError: it cannot be read.
        UnicodeError: its encoding cannot be recognised; the message says what to do.
    """
    return decode_text(Path(path).read_bytes())


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file, without their ends. Raises as `read_text`."""
    # Not splitlines(), which also splits at characters that names may hold.
    return read_text(path).removesuffix("\n").split("\n")


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and columns of each row of a CSV or TSV file; rows without any text are skipped.

    Raises:
        OSError, UnicodeError: as `read_text`.
        ValueError: a row is not valid CSV.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    # Spreadsheets write semicolons where the comma is the decimal sign.
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield rows.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num}: {error}; save it as CSV again") from None


def parse_xml(data: bytes, *, comments: bool = False) -> ET.Element:
    """The root element of an XML file.

    Args:
        comments: keep comments and processing instructions, for a file that is written again.

    Raises:
        UnicodeError: as `decode_text`.
        ValueError: it has a DOCTYPE, which can make a small file expand without end.
        xml.etree.ElementTree.ParseError: it is not XML.
    """
    text = decode_text(data)
    if "<!DOCTYPE" in text:
        raise ValueError("has a DOCTYPE, which annotations do not need")
    # The declaration is about the bytes, which are decoded now; its lines stay, for line numbers in messages.
    if declaration := _DECLARATION.match(text):
        text = "\n" * declaration[0].count("\n") + text[declaration.end() :]
    builder = ET.TreeBuilder(insert_comments=comments, insert_pis=comments)
    root: ET.Element = ET.fromstring(text, ET.XMLParser(target=builder))
    return root


def decode_text(data: bytes) -> str:
    """The text of the bytes of a file; errors are those of `read_text`."""
    text = _decoded(data)
    if "\0" in text:
        raise UnicodeError("it holds zero bytes, as damaged files do; get a whole copy")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Byte order marks inside come from files that were joined.
    return text.replace("\n\ufeff", "\n").removeprefix("\ufeff")


def reason_of(error: Exception) -> str:
    """The reason of an error, in one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def reading(file: object, error: Callable[[str], Exception], next_step: str) -> Iterator[None]:
    """Turns an OSError or ValueError in its block into `error`: "FILE: cannot be read (why); next step"."""
    try:
        yield
    except (OSError, ValueError) as problem:
        raise error(f"{file}: cannot be read ({reason_of(problem)}); {next_step}") from None


def plural(count: int, noun: str) -> str:
    """`1 frame`, `2 frames`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or the error's type where it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def as_float(value: int) -> float | int:
    """An integer as a float; unchanged where it has hundreds of digits, which no float holds."""
    with contextlib.suppress(OverflowError):
        return float(value)
    return value


def _decoded(data: bytes) -> str:
    for mark, codec in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_strictly(data[len(mark) :], codec)
    if b"\0" in data and (text := _decode_unmarked(data)) is not None:
        return text
    for codec in (tried := _declared(data)):
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(codec)
    return _decode_strictly(data, "utf-8", *tried)


def _decode_strictly(data: bytes, codec: str, *tried: str) -> str:
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(codec).count("\n") + 1
        names = " nor ".join(name.upper() for name in dict.fromkeys((codec, *tried)))
        hint = " and declare that" if data.lstrip().startswith(b"<?xml") else ""
        wrong = f"byte 0x{data[error.start]:02X} in line {line} is not {names}"
        raise UnicodeError(f"{wrong}; get a whole copy, or save it as UTF-8{hint}") from None


def _decode_unmarked(data: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: the codec that gives most ASCII, which every file here has some of."""
    best, most = None, 0
    for codec in _UTF_16_OR_32:
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        ascii_letters = len(text.encode("ascii", "ignore"))
        if ascii_letters > most and not _CONTROL.search(text):
            best, most = text, ascii_letters
    return best


def _declared(data: bytes) -> tuple[str, ...]:
    """The codecs to try for what an XML file declares; () without a declaration, or with a wrong one."""
    found = _DECLARED.match(data)
    if found is None:
        return ()
    codec = _codec(found[1].decode("ascii").lower())
    if codec is None:
        name = found[1].decode("ascii")
        raise UnicodeError(f"it declares the encoding {name!r}, which is not known; save it as UTF-8")
    # Programs write "utf-16" into files of single bytes; the declaration itself disproves it.
    if found[0].decode(codec, "replace") != found[0].decode("ascii", "replace"):
        return ()
    # Three bytes of one character do not occur by chance among pairs, and editors save UTF-8.
    if codec.startswith(_MULTI_BYTE) and _THREE_BYTES.search(data):
        with contextlib.suppress(UnicodeDecodeError):
            data.decode("utf-8")
            return ("utf-8",)
    return _CODECS_OF.get(codec, (codec,))


def _codec(name: str) -> str | None:
    """Python's name of an encoding; None for an unknown one."""
    name = name.removeprefix("x-")
    name = _OTHER_NAMES.get(name, name)
    for candidate in (name, re.sub(r"^(windows|ms|cp)-?(?=\d)", "cp", name)):
        try:
            found = codecs.lookup(candidate).name
            "".encode(found)
        except (LookupError, UnicodeError):
            continue
        return None if found in _NOT_OF_FILES else found
    return None

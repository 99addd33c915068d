"""Protocol buffers in text format, read and written without their definitions.

`pipeline.config` and `label_map.pbtxt` of the TF Object Detection API are such files. Only the definitions
state which field is repeated, so every field here is a list of its values, in the order of the file.

Source: https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, Union

Value: TypeAlias = Union[str, bool, int, float, "Word", "Message"]
Message: TypeAlias = dict[str, list[Value]]

# Deeper than any real file; stops a file made to exhaust the stack.
MAX_DEPTH = 100

# Possessive, so that a long gap or number before an error is tried in one way only.
_GAP = r"(?:[ \t\r\n\f\v]++|\#[^\n]*+)*+"
_TOKEN = re.compile(
    _GAP
    + r"""
    (?: (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?[ \t]*
            (?:0[xX][0-9a-fA-F]++|(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+[fF]?+)
            (?![\w.]))
      | (?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
      | (?P<extension>\[[A-Za-z_]\w*[./][\w.\-/]+\])     # [a] alone is a list
      | (?P<sign>[{}<>\[\]:,;])
      | (?P<end>\Z) )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    rb"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})"
    rb"|(?P<octal>[0-7]{1,3})|(?P<letter>.))"
)
_LETTERS = dict(zip(b"abfnrtv", b"\a\b\f\n\r\t\v", strict=True))
_CLOSING = {"{": "}", "<": ">"}
_WORDS: Mapping[str, Value] = {
    **dict.fromkeys(("true", "True"), True),
    **dict.fromkeys(("false", "False"), False),
    **dict.fromkeys(("inf", "infinity"), math.inf),
    **dict.fromkeys(("-inf", "-infinity"), -math.inf),
    "nan": math.nan,
}


@dataclass(frozen=True)
class Word:
    """The name of an enum's value, such as RELU_6: a bare word, not a string."""

    name: str


def parse(text: str) -> Message:
    """Reads a message.

    Raises:
        ValueError: the text is none; the message names the line and the text there.
    """
    return _Parser(text).message("")


def write(message: Mapping[str, Sequence[Value]], indent: str = "") -> str:
    """The text of a message, one field a line; the inverse of `parse`."""
    lines = []
    for name, values in message.items():
        for value in values:
            if isinstance(value, dict):
                lines.append(f"{indent}{name} {{\n{write(value, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar_text(value)}\n")
    return "".join(lines)


def _scalar_text(value: Value) -> str:
    if isinstance(value, Word):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    return repr(value)


def _escaped(letter: str) -> str:
    if letter in '\\"':
        return "\\" + letter
    return letter if letter.isprintable() else "".join(f"\\{byte:03o}" for byte in letter.encode())


class _Parser:
    """Recursive descent over the tokens; `kind` and `token` are the next one."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.tokens = self._tokens()
        self._advance()

    def message(self, closing: str) -> Message:
        """Fields up to the closing sign, which it consumes; "" is the end of the text."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"messages more than {MAX_DEPTH} deep")
        fields: Message = {}
        while self.token != closing or self.kind not in ("sign", "end"):
            if self.kind not in ("word", "extension") or self.token.startswith("-"):
                raise self._error(f"{self._shown()} where a field or {closing or 'the end'} should be")
            fields.setdefault(self._take(), []).extend(self._values())
            if self.token in (",", ";") and self.kind == "sign":
                self._advance()
        self.depth -= 1
        self._advance()
        return fields

    def _values(self) -> list[Value]:
        colon = self.token == ":" and self.kind == "sign"
        if colon:
            self._advance()
        elif self.kind != "sign" or self.token not in (*_CLOSING, "["):
            raise self._error(f"{self._shown()} where a colon should be")
        if self.kind != "sign" or self.token != "[":
            return [self._value()]
        self._advance()
        values: list[Value] = []
        while self.token != "]" or self.kind != "sign":
            values.append(self._value())
            if self.token == ",":
                self._advance()
            elif self.token != "]":
                raise self._error(f"{self._shown()} where a comma or ] should be")
        self._advance()
        return values

    def _value(self) -> Value:
        if self.kind == "sign" and self.token in _CLOSING:
            return self.message(_CLOSING[self._take()])
        if self.kind == "string":
            return self._string()
        if self.kind == "number":
            return _number(self._take())
        if self.kind == "word" and (self.token in _WORDS or not self.token.startswith("-")):
            word = self._take()
            return _WORDS.get(word, Word(word))
        raise self._error(f"{self._shown()} where a value should be")

    def _string(self) -> str:
        """Adjacent strings are one; escapes stand for bytes of UTF-8."""
        data = b""
        while self.kind == "string":
            data += _ESCAPE.sub(_unescape, self._take()[1:-1].encode())
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._error("a string before this that is not UTF-8") from None

    def _take(self) -> str:
        token = self.token
        self._advance()
        return token

    def _advance(self) -> None:
        self.kind, self.token, self.at = next(self.tokens, ("end", "", len(self.text)))

    def _tokens(self) -> Iterator[tuple[str, str, int]]:
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                # Behind white space and comments, so that the line is that of the error.
                gap = re.compile(_GAP).match(self.text, at)
                self.at = gap.end() if gap else at
                raise self._error(f"{self.text[self.at : self.at + 20].splitlines()[0]!r}, which is no token")
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            at = match.end()

    def _shown(self) -> str:
        return repr(self.token) if self.kind != "end" else "the end of the text"

    def _error(self, what: str) -> ValueError:
        return ValueError(f"line {self.text.count(chr(10), 0, self.at) + 1}: {what}")


def _number(text: str) -> int | float:
    text = re.sub(r"\s", "", text)
    digits = text.lstrip("-")
    if digits[:2].lower() == "0x":
        return int(text, 16)
    if re.fullmatch("0[0-7]+", digits):
        return int(text, 8)
    return int(text) if digits.isdecimal() else float(text.rstrip("fF"))


def _unescape(match: re.Match[bytes]) -> bytes:
    if match["hex"]:
        return bytes([int(match["hex"], 16)])
    if match["octal"]:
        return bytes([int(match["octal"], 8) & 0xFF])
    if point := match["short"] or match["long"]:
        return chr(min(int(point, 16), 0x10FFFF)).encode(errors="replace")
    letter = match["letter"]
    return bytes([_LETTERS.get(letter[0], letter[0])])

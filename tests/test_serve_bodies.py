"""The content of a body decides, however it is wrapped; it is counted before anything is built from it."""

from __future__ import annotations

import base64
import binascii
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from maskwatch.client import Client
from maskwatch.errors import ServiceError
from maskwatch.serve.core import bodies, uploads
from maskwatch.serve.core.bodies import parse_body
from maskwatch.serve.core.problem import Problem, describe_errors
from maskwatch.serve.core.uploads import UploadedImage, decode_base64, image_bytes
from maskwatch.serve.settings import ServiceLimits
from serving import client_of, picture_file

LIMITS = ServiceLimits(max_images=3)


@pytest.fixture(scope="module")
def picture() -> bytes:
    """With every value of a byte in it, CR and LF too."""
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    file = picture_file(noise)
    assert set(file) == set(range(256))
    return file


@pytest.fixture(scope="module")
def client(tiny_model: Path) -> Iterator[TestClient]:
    with client_of(tiny_model, {"max_images": 3}) as client:
        yield client


def part(head: bytes, content: bytes, edge: bytes = b"edge", newline: bytes = b"\r\n") -> bytes:
    return newline.join([b"--" + edge, *([head] if head else []), b"", content]) + newline


def form(*parts: bytes, kind: str = "multipart/form-data; boundary=edge") -> list[UploadedImage]:
    return parse_body(kind, None, b"".join(parts) + b"--edge--\r\n", LIMITS, allow_urls=False)


def refused(kind: str, body: bytes, limits: ServiceLimits = LIMITS) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_body(kind, None, body, limits, allow_urls=False)
    return caught.value


@pytest.mark.parametrize(
    ("head", "source"),
    [
        (b'Content-Disposition: form-data; name="images"; filename="a.jpg"', "a.jpg"),
        (b'Content-Disposition: form-data; name="images"', "picture-1"),
        (b'Content-Disposition: form-data; name="images[]"', "picture-1"),
        (b'content-disposition:form-data;name=images;filename=""', "picture-1"),
        (b"Content-Disposition: form-data; name=\"images\"; filename*=UTF-8''t%C3%BCr%20a.jpg", "tür a.jpg"),
        (b"Content-Disposition: form-data; name=\"photo\"; filename*=iso-8859-1''t%FCr.jpg", "tür.jpg"),
        (b"Content-Disposition: form-data; name=\"x\"; filename*0*=UTF-8''a; filename*1=b.jpg", "ab.jpg"),
        ('Content-Disposition: form-data; name="images"; filename="戴口罩.jpg"'.encode(), "戴口罩.jpg"),
        ('Content-Disposition: form-data; name="images"; filename="tür.jpg"'.encode("latin-1"), "tür.jpg"),
        (b'Content-Disposition: form-data; name="images"; filename="a\\"b;c.jpg"', 'a"b;c.jpg'),
        (b'Content-Disposition: form-data; filename="a.jpg"', "a.jpg"),
        (b'Content-Disposition: form-data; name="door"', "door"),
        (b"Content-Disposition: attachment", "picture-1"),
        (b"Content-Type: image/jpeg; name=a.jpg", "a.jpg"),
        (b'Content-Type: text/plain\r\nContent-Disposition: form-data;\r\n name="door"', "door"),
        (b"no header at all", "picture-1"),
        (b"", "picture-1"),
    ],
)
def test_a_part_is_what_it_holds(head: bytes, source: str, picture: bytes) -> None:
    assert form(part(head, picture)) == [UploadedImage(source, picture)]


def test_parts_that_are_no_pictures_are_fields(picture: bytes) -> None:
    fields = [
        b"BM of the year",
        b"P1 urgent",
        b"0123456789abcdef" * 8,
        b"data: of today",
        b"",
        b"II*\0",
        b"\xff\xd8",
    ]
    parts = [part(b'Content-Disposition: form-data; name="note"', field) for field in fields]
    assert form(*parts, part(b'Content-Disposition: form-data; name="image"', picture)) == [
        UploadedImage("image", picture)
    ]


def test_order_is_that_of_the_form(picture: bytes) -> None:
    """A file that is no picture keeps its index, so that the failure names the right one."""
    files = form(
        part(b'Content-Disposition: form-data; name="b"; filename="torn.txt"', b"torn"),
        part(b'Content-Disposition: form-data; name="token"', b"abc"),
        part(b'Content-Disposition: form-data; name="a"', picture),
        part(b'Content-Disposition: form-data; name="images"', b"text"),
    )
    expected = [("torn.txt", b"torn"), ("a", picture), ("picture-3", b"text")]
    assert [(file.source, file.data) for file in files] == expected


@pytest.mark.parametrize(
    ("kind", "before", "edge", "newline", "after"),
    [
        ("multipart/form-data; boundary=edge", b"", b"edge", b"\r\n", b""),
        ('multipart/form-data; boundary="edge"', b"\r\n", b"edge", b"\r\n", b"\r\nepilogue"),
        ("multipart/form-data; boundary=edge", b"preamble\r\n", b"edge", b"\r\n", b""),
        ("multipart/form-data; charset=utf-8; boundary=edge", b"", b"edge", b"\n", b""),
        ("Multipart/Mixed; Boundary=edge", b"", b"edge", b"\r\n", b""),
        ("multipart/form-data", b"", b"----WebKitFormBoundary7MA4YWxk", b"\r\n", b""),
        ("multipart/form-data; boundary=", b"", b"edge", b"\r\n", b""),
        ("multipart/form-data; boundary=another", b"", b"edge", b"\r\n", b""),
        ("multipart/form-data; boundary=--edge", b"", b"edge", b"\r\n", b""),
    ],
)
def test_boundaries(
    kind: str, before: bytes, edge: bytes, newline: bytes, after: bytes, picture: bytes
) -> None:
    body = before + part(b'Content-Disposition: form-data; name="images"', picture, edge, newline)
    body += b"--" + edge + b"--" + after
    assert parse_body(kind, None, body, LIMITS, allow_urls=False) == [UploadedImage("picture-1", picture)]


def test_forms_that_cannot_be_read(picture: bytes) -> None:
    kind, head = "multipart/form-data; boundary=edge", b'Content-Disposition: form-data; name="images"'
    whole = part(head, picture)
    for body, text in (
        (whole, "does not end with its boundary"),
        (whole + b"--edg", "does not end with its boundary"),
        (picture, "no boundary that the body has"),
        (b"", "no boundary that the body has"),
        (b"\r\n" * (8 << 20), "no boundary that the body has"),
        (b"--edge\r\n" + head + b"\r\n--edge--", "part 1 of the form has no headers that end"),
        (b"--edgewise\r\n\r\nx\r\n--edge--", "part 1 of the form has no headers"),
        (part(head + b"; filename=" + b"a" * 20_000, picture) + b"--edge--", "within 16384 bytes"),
        (part(head + b"; filename*=a; filename*0*=b", picture), "a broken Content-Disposition"),
        (part(head + b"; filename*" + b"9" * 5000 + b"=a", picture), "a broken Content-Disposition"),
        (part(head + b"; filename*=a\0b'en'c", picture), "a broken Content-Disposition"),
    ):
        problem = refused(kind, body)
        assert (problem.status, text in problem.detail) == (400, True), problem.detail
    empty = refused(kind, b"--edge--\r\n")
    assert (empty.status, "its parts: none" in empty.detail) == (422, True)


def test_a_part_in_base64(picture: bytes) -> None:
    """As a canvas of a page gives it, as mail programs send it, and as files that say so and are not."""
    text, name = base64.encodebytes(picture), b'Content-Disposition: form-data; name="images"'
    address = b"data:image/png;base64," + base64.b64encode(picture)
    encoded = name + b"\r\nContent-Transfer-Encoding: BASE64"
    printable = name + b"\r\nContent-Transfer-Encoding: quoted-printable"
    for sent in (
        part(name, address), part(name, text), part(encoded, text), part(encoded, picture),
        part(printable, binascii.b2a_qp(picture, istext=False)), part(printable, picture),
        part(b'Content-Disposition: form-data; name="photo"', address),
    ):  # fmt: skip
        assert [file.data for file in form(sent)] == [picture]
    for head, content in ((name, b"data:image/png;base64,@@"), (encoded, b"n@ Base64")):
        problem = refused("multipart/form-data; boundary=edge", part(head, content) + b"--edge--")
        assert problem.status == 422
        assert problem.detail.startswith("'images' of the form is not Base64")


@pytest.mark.parametrize(
    "kind",
    [
        "", "image/jpeg", "application/octet-stream", "binary/octet-stream", "text/plain", "video/mp4",
        "application/x-www-form-urlencoded", "application/json", "application/problem+json", "nonsense",
    ],
)  # fmt: skip
def test_a_picture_as_it_is_whatever_its_type(kind: str, picture: bytes) -> None:
    """curl, urllib, wget and axios call a body x-www-form-urlencoded, HTTPie calls it JSON."""
    expected = [UploadedImage("a.jpg", picture)]
    assert parse_body(kind, "a.jpg", picture, LIMITS, allow_urls=False) == expected
    if "json" not in kind:
        address = b"data:image/png;base64," + base64.b64encode(picture)
        assert parse_body(kind, "a.jpg", address, LIMITS, allow_urls=False) == expected


@pytest.mark.parametrize("kind", ["application/json", "text/json", "", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("before", [b"", b"\n  ", b"\xef\xbb\xbf"])
def test_json_whatever_its_type(kind: str, before: bytes, picture: bytes) -> None:
    """`curl --data '{…}'` says x-www-form-urlencoded; Windows puts a mark before it."""
    body = before + json.dumps({"images": [{"data": base64.b64encode(picture).decode()}]}).encode()
    assert parse_body(kind, None, body, LIMITS, allow_urls=False) == [UploadedImage("picture-1", picture)]


def test_other_types_are_refused() -> None:
    for kind, body in (
        ("text/html", b"<p>"),
        ("application/x-www-form-urlencoded", b"images=abc"),
        ("x", b""),
    ):
        problem = refused(kind, body)
        assert (problem.status, repr(kind) in problem.detail) == (415, True)


def spellings(data: bytes) -> dict[str, bytes]:
    plain, url = base64.b64encode(data), base64.urlsafe_b64encode(data)
    lines = textwrap.wrap(plain.decode(), 76)
    return {
        "plain": plain,
        "no padding": plain.rstrip(b"="),
        "for addresses": url,
        "for addresses, no padding": url.rstrip(b"="),
        "wrapped": base64.encodebytes(data),
        "wrapped, CRLF": base64.encodebytes(data).replace(b"\n", b"\r\n"),
        "indented": "\n".join("    " + line for line in lines).encode(),
        "wrapped by a shell": " ".join(lines).encode(),
        "in blanks": b" \t\n" + plain + b"\r\n",
        "data address": b"data:image/jpeg;base64," + plain,
        "of another kind": b"data:;base64," + url.rstrip(b"="),
        "with parameters": b"DATA:image/png;name=a.png;BASE64," + base64.encodebytes(data),
        "escaped": b"data:image/jpeg;base64," + plain.replace(b"+", b"%2B").replace(b"/", b"%2f")
        .replace(b"=", b"%3D"),
    }  # fmt: skip


@given(st.binary(max_size=400))
def test_base64(data: bytes) -> None:
    for name, text in spellings(data).items():
        assert decode_base64(text) == data, name


@pytest.mark.parametrize(
    "text",
    [
        b"A",
        b"AAAAA",
        b"AA=A",
        b"AA@A",
        b"AA==AA==",
        b"data:image/png,AAAA",
        b"data:AAAA",
        "ä".encode(),
        b"AA\0A",
    ],
)
def test_no_base64(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_base64(text)


@given(st.binary(min_size=40, max_size=400))
@example(b"\xfb" + bytes(200))
@example(bytes(50) + b">")  # the last character
def test_a_plus_that_a_form_has_eaten_is_noticed(data: bytes) -> None:
    """Without it every byte that follows would be another one."""
    for text in (base64.b64encode(data), base64.encodebytes(data)):
        eaten = text.replace(b"+", b" ")
        if eaten.strip() == text.strip():
            continue
        with pytest.raises(ValueError, match=r"\w"):
            assert decode_base64(eaten) == data


@given(st.one_of(st.binary(), st.text(alphabet="AZaz09+/-_= \n,:;dat").map(str.encode)))
@example(b" " * (32 << 20))  # a backtracking pattern would never end
def test_what_is_no_picture_stays_as_it_is(content: bytes) -> None:
    try:
        assert image_bytes(content) == content
    except ValueError:
        assert content.lstrip()[:5].lower() == b"data:"


def test_in_json(client: TestClient, picture: bytes) -> None:
    """Each spelling gives what the file itself gives; our own answer can be sent back."""
    own = client.post("/v1/detect?annotate=1", content=picture).json()["results"][0]
    texts = [text.decode() for text in spellings(picture).values()]
    for text in texts:
        (result,) = client.post("/v1/detect", json={"images": [{"data": text}]}).json()["results"]
        assert (result["index"], result["width"]) == (0, 32)
        assert result["detections"] == own["detections"]
    again = client.post("/v1/detect", json={"images": [{"data": own["annotated"]}]}).json()
    assert again["results"][0]["height"] == 32


class Counted:
    """Stands in the place of a function and counts."""

    def __init__(self, work: Any) -> None:
        self.work, self.calls = work, 0

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        self.calls += 1
        return self.work(*arguments, **more)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"images":[' + b",".join([b'{"data":""}'] * 2_800_000) + b"]}", 413, "3 pictures need"),
        (b'{"images":[' + b"{}," * 3_000_000 + b"{}]}", 413, "3 pictures need"),
        (b"[" * 8_000_000, 413, "8000000 brackets"),
        (b'{"a":' * 3_000_000, 413, "brackets"),
        (b'{"images":[{"data":[' + b"0," * 5_000_000 + b"0]}]}", 413, "brackets"),
    ],
    ids=["pictures", "empty", "lists", "objects", "numbers"],
)
def test_a_body_of_many_is_not_even_parsed(
    body: bytes, status: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse = Counted(bodies.from_json)
    monkeypatch.setattr(bodies, "from_json", parse)
    problem = refused("application/json", body)
    assert (problem.status, text in problem.detail) == (status, True)
    assert len(problem.detail) < 300
    assert parse.calls == 0


def test_pictures_are_counted_before_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Counted(bodies.DetectBody.model_validate)
    monkeypatch.setattr(bodies.DetectBody, "model_validate", build)
    for count in (4, 20_000):
        body = b'{"images":[' + b",".join([b'{"data":""}'] * count) + b"]}"
        assert len(body) < 1 << 20
        assert f"has {count} pictures; the limit is 3" in refused("application/json", body).detail
    assert build.calls == 0
    three = parse_body(
        "application/json",
        None,
        b'{"images":[' + b",".join([b'{"data":""}'] * 3) + b"]}",
        LIMITS,
        allow_urls=False,
    )
    assert (len(three), build.calls) == (3, 1)


def test_as_many_as_may_be_are_taken(picture: bytes) -> None:
    """Names and addresses of nothing but commas, as long as they may be, are no attack."""
    limits = ServiceLimits(max_images=400, queue=400)
    entry = {"name": "," * 200, "url": "http://a/" + "," * 1991}
    body = json.dumps({"images": [entry] * 400}).encode()
    assert len(parse_body("application/json", None, body, limits, allow_urls=True)) == 400


@pytest.mark.parametrize(
    "value",
    [
        b"1" * 1_000_000, b"1." + b"1" * 1_000_000, b"1e" + b"9" * 1_000_000, b'"' + b"A" * 10_000_000 + b'"',
        b'"' + b"\\u0041" * 1_000_000 + b'"', b"[" * 30_000 + b"]" * 30_000, b'{"a":1}', b"NaN", b"-",
        b'"\\ud800"',
    ],
    ids=["integer", "float", "exponent", "text", "escapes", "deep", "object", "nan", "minus", "surrogate"],
)  # fmt: skip
@pytest.mark.parametrize(
    "place", [b'{"images":%s}', b'{"images":[%s]}', b'{"images":[{"name":%s}]}', b'{"x":%s}']
)
def test_large_values_get_a_short_answer(value: bytes, place: bytes) -> None:
    problem = refused("application/json", place.replace(b"%s", value))
    assert problem.status == 422
    assert len(problem.detail) < 600


def test_faults_show_a_part_of_what_is_large() -> None:
    for large in ("A" * 10_000_000, ["A" * 100] * 1_000_000, {"A" * 1000: [[1] * 1000] * 1000}):
        assert len(describe_errors([{"loc": ("images",), "input": large, "msg": "no"}])) < 160


def test_a_form_of_many_parts_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Counted(uploads._part)
    monkeypatch.setattr(uploads, "_part", made)
    head = b'Content-Disposition: form-data; name="a"'
    kind = "multipart/form-data; boundary=edge"
    for parts in (
        b"--edge\r\n\r\n\r\n" * 2_000_000,
        part(head, b"") * 12,
        part(head + b"; filename=a", b"x") * 500_000,
    ):
        problem = refused(kind, parts + b"--edge--\r\n")
        assert (problem.status, "the limit is 3 pictures and 8 other parts" in problem.detail) == (413, True)
    assert made.calls == 0
    assert refused(kind, part(head, b"") * 11 + b"--edge--\r\n").status == 422
    assert made.calls == 11
    four = part(head + b"; filename=a", b"x") * 4
    assert "has 4 pictures; the limit is 3" in refused(kind, four + b"--edge--\r\n").detail


SCRAPS = [
    b"--edge", b"--edge--", b"--", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b"\0", b"\xff\xfe",
    b"\xc3\xbc", b"Content-Disposition: ", b"Content-Type: ", b"Content-Transfer-Encoding: base64",
    b"form-data", b"; name=", b"; filename=", b"; filename*=", b"; filename*0*=", b"UTF-8''", b"x''",
    b"'", b'"', b"\\", b";", b"=", b"%C3", b"%z", b"images", b"boundary", b":", b"data:", b";base64,",
    b"AAAA", b"=?utf-8?b?w7w=?=", b"{", b"}", b"[", b"]", b",", b'"images"', b'"data"', b'"url"',
    b'"name"', b"null", b"1e999", b'"\\ud800"', b"GIF89a", b"BM", b"P6 1 ", b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n", b"II*\0",
]  # fmt: skip
KINDS = [
    "multipart/form-data; boundary=edge",
    "multipart/form-data",
    "application/json",
    "text/plain",
    "",
    "a/b; x",
]


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(st.sampled_from(KINDS), st.text(st.characters(max_codepoint=255))),
    st.sampled_from([b"", b"--edge\r\nContent-Disposition: form-data", b'{"images": [{']),
    st.lists(st.sampled_from(SCRAPS), max_size=25).map(b"".join),
    st.sampled_from([b"", b"\r\n\r\nabc\r\n--edge--", b"\n--edge--", b"}]}"]),
)
def test_any_body_gives_pictures_or_a_problem(kind: str, head: bytes, scraps: bytes, end: bytes) -> None:
    try:
        files = parse_body(kind, None, head + scraps + end, LIMITS, allow_urls=True)
    except Problem as caught:
        problem: Problem | None = caught
    else:
        problem = None
    if problem is not None:
        assert problem.status in (400, 413, 415, 422)
        assert json.loads(problem.to_response("/v1/detect").body)["detail"]
        return
    assert 1 <= len(files) <= 3
    for file in files:
        assert file.source.encode()
        assert isinstance(file.data, bytes)


def test_our_client_finds_its_pictures_again(client: TestClient, tmp_path: Path) -> None:
    """Files of one name from several folders, one that is none, and names that look like those sent."""
    sizes = {"x/a.png": (10, 4), "y/a.png": (20, 4), "0-a.png": (30, 4)}
    paths = [tmp_path / name for name in sizes]
    for path, (width, height) in zip(paths, sizes.values(), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture_file(np.zeros((height, width, 3), np.uint8)))
    torn = tmp_path / "1-a.png"
    torn.write_bytes(b"torn")
    with Client("http://127.0.0.1", transport=client._transport) as ours:
        answer = ours.detect(paths)
        assert [(one.source, one.width) for one in answer.pictures] == [
            (str(path), width) for path, (width, _) in zip(paths, sizes.values(), strict=True)
        ]
        answer = ours.detect([paths[1], torn, paths[2]])
        assert [(one.index, one.source, one.width) for one in answer.pictures] == [
            (0, str(paths[1]), 20),
            (2, str(paths[2]), 30),
        ]
        assert [(one.index, one.source) for one in answer.failures] == [(1, str(torn))]
        with pytest.raises(ServiceError) as caught:
            ours.detect([torn, torn])
    assert [source for source, _ in caught.value.failures] == [str(torn)] * 2

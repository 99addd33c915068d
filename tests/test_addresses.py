"""Addresses: whatever the password, the right server is asked, with that password, and nobody reads it."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwatch.net.addresses import Address, is_address, shown_argument, without_credentials
from maskwatch.net.headers import retry_after_s

SERVERS = ["10.0.0.5", "192.168.1.20:554", "[fe80::1]:8554", "localhost:8554"]


@pytest.mark.parametrize(
    "password",
    ["Ge#heim", "Ge?heim", "Ge/heim", "Ge[heim", "[Ge]heim", "Ge@heim", "Ge:heim", "100%", "Ge heim",
     "p@ss/w?rd#1", "12/34", "12?34", "12#34", "/start", "?", "#", "@", "ends@", "a@b/c",
     "é~!$&'()*+,;=", "\\back", "a//b", "x://y"],
)  # fmt: skip
@pytest.mark.parametrize("server", SERVERS)
def test_any_password_as_it_is(password: str, server: str) -> None:
    text = f"rtsp://admin:{password}@{server}/live?channel=1"
    address = Address.parse(text)
    assert (address.user, address.password, address.server) == ("admin", password, server)
    assert address.rest == "/live?channel=1"
    assert without_credentials(text) == f"rtsp://***@{server}/live?channel=1"
    # What libraries get is read by the standard library as it was meant.
    parts = urllib.parse.urlsplit(address.url)
    assert parts.netloc.endswith(f"@{server}")
    assert urllib.parse.unquote(parts.password or "") == password


@pytest.mark.parametrize("password", ["12/34", "9?", "p@ss/word", "@/", "1/a@b?c"])
def test_a_name_with_a_dot_settles_it_for_rtsp(password: str) -> None:
    """A web address that is right by the standard means what that says; RTSP has no @ in its paths."""
    address = Address.parse(f"rtsp://admin:{password}@door.local:554/live")
    assert (address.user, address.password, address.server) == ("admin", password, "door.local:554")
    assert Address.parse(f"rtsp://cam:554/live@{password}").host == "cam"
    if "@" not in password:
        assert Address.parse(f"http://nas:80/{password}/mail@example.org").host == "nas"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), st.sampled_from(SERVERS))
def test_a_password_is_the_same_raw_and_encoded(password: str, server: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in password.encode())
    address = Address.parse(f"rtsp://admin:{encoded}@{server}/live")
    assert (address.password, address.server) == (password, server)
    assert Address.parse(address.url) == address, "nothing is encoded twice"
    if "%" not in password:
        assert Address.parse(f"rtsp://admin:{password}@{server}/live") == address


@given(st.text(st.sampled_from("ab19:@/?#[]%&=+ .\\é"), min_size=1, max_size=10))
def test_no_password_is_shown_before_a_name(password: str) -> None:
    """Where a name follows, a few passwords cannot be told from a path; they are hidden all the same."""
    for server in ("cam.local", "door:554", "10.0.0.5"):
        assert without_credentials(f"rtsp://me:{password}@{server}/live") == f"rtsp://***@{server}/live"


@pytest.mark.parametrize(
    ("text", "user", "server", "rest"),
    [
        ("http://host/x?mail=a@b", None, "host", "/x?mail=a@b"),
        ("http://host:8080/x?mail=a@b", None, "host:8080", "/x?mail=a@b"),
        ("http://nas:8080/mail/a@b.de", None, "nas:8080", "/mail/a@b.de"),
        ("http://10.0.0.5:80?to=a@b", None, "10.0.0.5:80", "?to=a@b"),
        ("http://[::1]:80/a@b", None, "[::1]:80", "/a@b"),
        ("http://host/page#a@b", None, "host", "/page#a@b"),
        ("rtsp://admin:pw@host/a@b", "admin", "host", "/a@b"),
        ("rtsp://admin:G/e@host/x?mail=a@b", "admin", "host", "/x?mail=a@b"),
        ("RTSP://anna@Host", "anna", "Host", ""),
        ("rtsp://an%3Ana:x@host", "an:na", "host", ""),
        ("rtsp://10.0.0.5:554/user=admin_password=p@ss_channel=1", None, "10.0.0.5:554",
         "/user=admin_password=p@ss_channel=1"),
    ],
)  # fmt: skip
def test_the_at_of_a_path_stays_there(text: str, user: str | None, server: str, rest: str) -> None:
    address = Address.parse(text)
    assert (address.user, address.server, address.rest) == (user, server, rest)
    assert address.bare.partition("://")[2] == f"{server}{rest}"


def test_parts() -> None:
    address = Address.parse("https://u%40x:p%zz@[fe80::1%eth0]:443/a%20b/c?d#e")
    assert address == Address("https", "u@x", "p%zz", "fe80::1%eth0", 443, "/a%20b/c?d#e")
    assert (address.path, address.bare) == ("/a%20b/c", "https://[fe80::1%eth0]:443/a%20b/c?d#e")
    assert address.url == "https://u%40x:p%25zz@[fe80::1%eth0]:443/a%20b/c?d#e"
    assert "p%zz" not in repr(address)


@pytest.mark.parametrize(
    "text",
    ["rtsp://", "rtsp:///x", "rtsp://u:secret@", "http://h:99999/", "http://h:0", "http://h:port/", "C://x",
     "a.mp4", "http://[::1/", "http://a b/"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"no scheme|no host") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


def test_a_file_of_that_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_address("http://host/a.mp4")
    for name in ("08:15:04.mp4", "file:a.mp4", "C:\\a.mp4", "C://a.mp4", "", "x" * 5000, "nul\0"):
        assert not is_address(name)
    Path("http:/host").mkdir(parents=True)
    Path("http:/host/a.mp4").touch()
    assert not is_address("http://host/a.mp4")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:pw@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://admin:p@w:d@10.0.0.5/a@b", "rtsp://***@10.0.0.5/a@b"),
        ("rtsp://admin:p@ss/word@door/live", "rtsp://***@door/live"),
        ("rtsp://admin:secret/live", "rtsp://admin:***/live"),
        ("http://host/v?user=me&pwd=se/cret&channel=1", "http://host/v?user=***&pwd=***&channel=1"),
        ("http://host/v?pwd=se;cret&channel=1", "http://host/v?pwd=***&channel=1"),
        ("rtsp://host/user=admin&password=pw&channel=1", "rtsp://host/user=***&password=***&channel=1"),
        ("cannot open HTTP://me:pw@host, try", "cannot open HTTP://***@host, try"),
        ("http://a:b@10.0.0.1/x leads to http://c:d@10.0.0.2/y", "http://***@10.0.0.1/x leads to http://***@10.0.0.2/y"),
        ("http://host/?monkey=1", "http://host/?monkey=1"),
        ("http://host:8080: no answer", "http://host:8080: no answer"),
        ("http://127.0.0.1:80/x?mail=a@b", "http://127.0.0.1:80/x?mail=a@b"),
        ("a text of nothing", "a text of nothing"),
    ],
)  # fmt: skip
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("door=rtsp://admin:Ge#heim@host/x", "door=rtsp://***@host/x"),
        ("x://admin:Ge/heim@host/x", "x://***@host/x"),
        ("rtsp:/admin:Ge#heim@host/x", "rtsp:/***@host/x"),
        ("http:admin:Ge#heim@host/x", "http:***@host/x"),
        ("admin:Ge#heim@192.168.1.5/x", "***@192.168.1.5/x"),
        ("cam:1/a.mp4", "cam:1/a.mp4"),
        ("a@b.mp4", "a@b.mp4"),
        ("http:a.png", "http:a.png"),
    ],
)
def test_what_names_nothing_is_shown_without_a_password(text: str, shown: str) -> None:
    assert shown_argument(text) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None), ("", None), (None, None)],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text) == seconds

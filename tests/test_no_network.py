"""Looking at pictures and watching open no connection. The program runs where it would be caught at it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import pytest

import maskwatch

EXAMPLES = Path(__file__).parents[1] / "examples"
CAUGHT = 97

# Python tells an audit hook of every connection and every look-up of a name; no hook can be taken away.
# What a process says to its neighbours over a path (AF_UNIX) goes over no network. One thing is let pass:
# urllib3, which supervision imports, finds out whether there is IPv6 by taking the address ::1 for a moment.
SITECUSTOMIZE = f"""
import os, sys

FORBIDDEN = ("connect", "sendto", "sendmsg", "getaddrinfo", "getnameinfo", "gethostbyname", "gethostbyaddr")

def forbid(event, arguments):
    library, _, call = event.partition(".")
    if library != "socket":
        return
    address = arguments[1] if call in ("bind", "connect", "sendto", "sendmsg") else None
    if isinstance(address, (str, bytes)):
        return
    if call in FORBIDDEN or (call == "bind" and address[:2] != ("::1", 0)):
        os.write(2, f"caught: {{event}} {{arguments[1:]}}\\n".encode())
        os._exit({CAUGHT})

sys.addaudithook(forbid)
"""

# Does what libraries written in C do: no audit hook sees it. The address is 127.0.0.1, port 9.
NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
file = libc.socket(2, 2, 0)
address = bytes((2, 0, 0, 9, 127, 0, 0, 1)) + bytes(8)
libc.{call}
"""


@cache
def works(*command: str) -> bool:
    """Whether a tool is there and allowed here: containers forbid some of them."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run([*command, "true"], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=network")
UNSHARE = ("unshare", "--map-root-user", "--net")

_SPEAKS = re.compile(r"\b(?:(?:connect|bind|send\w*|recv\w*)\(.*AF_INET|listen\(|accept4?\()")
_OWN_ADDRESS = re.compile(r"\bbind\(.*sin6_port=htons\(0\).*\"::1\"")


def caged(folder: Path, *arguments: object) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs Python without a network, with the hook, and under strace, as far as they work here.

    Returns how it went, and the lines of strace in which something goes out or waits for something to come.
    """
    (folder / "site").mkdir(exist_ok=True)
    (folder / "site/sitecustomize.py").write_text(SITECUSTOMIZE)
    paths = [str(folder / "site"), str(Path(maskwatch.__file__).parents[1])]
    trace = folder / "trace.txt"
    trace.write_text("")
    command = [*UNSHARE] if works(*UNSHARE) else []
    command += [*STRACE, "-o", str(trace)] if works(*STRACE) else []
    done = subprocess.run(
        [*command, sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    calls = [line for line in trace.read_text("utf-8", "replace").splitlines() if _SPEAKS.search(line)]
    return done, [line for line in calls if not _OWN_ADDRESS.search(line)]


def run(folder: Path, *arguments: object) -> str:
    """The command line in the cage; what it prints."""
    done, calls = caged(folder, "-c", "from maskwatch.cli.app import main; main()", *arguments)
    assert done.returncode == 0, done.stderr
    assert calls == []
    return done.stdout


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds of the portrait."""
    path = tmp_path / "door.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (512, 512))
    image_bgr = cv2.imread(str(EXAMPLES / "astronaut.jpg"))
    for _ in range(20):
        writer.write(image_bgr)
    writer.release()
    return path


def test_detect(tmp_path: Path) -> None:
    photo = EXAMPLES / "astronaut.jpg"
    said = run(tmp_path, "detect", photo, "--out", tmp_path / "out", "--blur", "--json", tmp_path / "r.json")
    assert said.splitlines()[1] == f"{photo}: 1 no_mask"
    assert (tmp_path / "out/astronaut.jpg").is_file()


def test_watch(tmp_path: Path, film: Path) -> None:
    pytest.importorskip("trackers", reason="the extra [live] is not installed")
    stored = ("--save-video", tmp_path / "seen.mp4", "--thumbnails", tmp_path / "alerts")
    stored += ("--clips", tmp_path / "clips")
    stored += ("--db", tmp_path / "events.db", "--events", tmp_path / "events.jsonl", "--retain", "30")
    said = run(tmp_path, "watch", film, "--dwell", "0.5", "--json", *stored)
    assert '"kind": "alert"' in said
    assert len(list((tmp_path / "alerts").iterdir())) == 1
    assert list(tmp_path.glob("seen*.mp4"))
    assert len(list((tmp_path / "clips").iterdir())) == 1


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import socket; socket.getaddrinfo('localhost', 80)",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
        "import socket; socket.create_server(('127.0.0.1', 0))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')",
        "import subprocess, sys; c = 'import socket; socket.gethostbyname(\"a\")';"
        "sys.exit(subprocess.run([sys.executable, '-c', c]).returncode)",
    ],
)
def test_the_hook_catches(tmp_path: Path, code: str) -> None:
    done, _ = caged(tmp_path, "-c", code)
    assert done.returncode == CAUGHT
    assert "caught: socket." in done.stderr


@pytest.mark.parametrize(
    "call",
    ["connect(file, address, 16)", "sendto(file, b'x', 1, 0, address, 16)", "bind(file, address, 16)"],
)
def test_strace_catches_what_the_hook_does_not(tmp_path: Path, call: str) -> None:
    if not works(*STRACE):
        pytest.skip("strace is not installed, or not allowed here")
    done, calls = caged(tmp_path, "-c", NATIVE.format(call=call))
    assert done.returncode == 0, done.stderr
    assert len(calls) == 1
    assert call.partition("(")[0] in calls[0]


def test_there_is_no_network_to_reach(tmp_path: Path) -> None:
    if not works(*UNSHARE):
        pytest.skip("unshare is not installed, or not allowed here")
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        outside = subprocess.run([sys.executable, "-c", code, port], capture_output=True, check=False)
        inside = subprocess.run(
            [*UNSHARE, sys.executable, "-c", code, port], capture_output=True, check=False
        )
    assert (outside.returncode, inside.returncode) == (0, 1)
    assert b"Network is unreachable" in inside.stderr or b"Cannot assign" in inside.stderr

"""A PostgreSQL server of Debian's package, in a folder of the test, on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pytest

from drawn_events import wait_until
from receiver import free_port

_PLACES = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/pgsql/bin")]
_FOUND = shutil.which("postgres", path=os.pathsep.join([*map(str, _PLACES), os.environ.get("PATH", "")]))

PASSWORD = "ge:h/e@im"
"""With characters that addresses must encode."""


class Postgres:
    """Everybody on this machine is let in as `maskwatch`; `anna` needs PASSWORD, by TCP."""

    def __init__(self) -> None:
        if _FOUND is None:
            pytest.skip("PostgreSQL's server is not installed")
        # Its own folder below /tmp: another user must get there, and the name of a socket is short.
        self.folder = Path(tempfile.mkdtemp(prefix="maskwatch-pg-"))
        self._data = self.folder / "data"
        self._user: Any = None
        if os.geteuid() == 0:  # the server refuses root
            import pwd  # not on Windows

            self._user = pwd.getpwnam("nobody")
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self.port = free_port()
        words = f"-D {self._data} --no-sync -U maskwatch -A trust -E UTF8 --no-locale".split()
        made = subprocess.run(
            [self._program("initdb"), *words], capture_output=True, text=True, check=False, **self._as_user()
        )
        assert made.returncode == 0, made.stderr
        (self._data / "pg_hba.conf").write_text(
            "local all all trust\nhost all anna 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.sql(f"CREATE ROLE anna LOGIN PASSWORD '{PASSWORD}'")

    def start(self) -> None:
        """Returns once it takes connections."""
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off", "max_connections": "30"}
        program = [self._program("postgres"), "-D", str(self._data), "-p", str(self.port)]
        program += ["-k", str(self.folder)]
        program += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                # Also again: after kill -9 a process of before may still hold the shared memory.
                with (self.folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(program, stdout=log, stderr=log, **self._as_user())
            asked = [self._program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            return subprocess.run(asked, check=False).returncode == 0

        wait_until(ready, f"PostgreSQL takes connections, see {self.folder}/log")

    def kill(self) -> None:
        """kill -9; the processes of its connections end with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # "immediate shutdown"
            self._process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, user: str = "maskwatch", database: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_schema(self) -> str:
        """The address of a new and empty schema; quicker than a new database."""
        name = f"s_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE SCHEMA {name}")
        return f"{self.url()}?options=-csearch_path%3D{name}"

    def sql(self, statement: str, url: str | None = None) -> str:
        """What psql prints for a statement, without headings."""
        program = [self._program("psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*program, "-d", url or self.url(), "-c", statement],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _as_user(self) -> dict[str, object]:
        ids = (
            {}
            if self._user is None
            else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        )
        return {"cwd": self.folder, "start_new_session": True, **ids}

    @staticmethod
    def _program(name: str) -> str:
        assert _FOUND is not None
        return str(Path(_FOUND).with_name(name))

"""Events in PostgreSQL: nothing is lost or doubled while servers are killed and passwords are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from drawn_events import START, event, wait_until

pytest.importorskip("psycopg", reason="the extra postgres is not installed")

from maskwatch.cli.app import main
from maskwatch.errors import EventError, MissingExtraError, OptionError
from maskwatch.live.sinks import RetryableError, outbox
from maskwatch.live.sinks.delivery import Delivery
from maskwatch.live.sinks.dispatcher import RetryPolicy
from maskwatch.live.sinks.event_databases import database_name
from maskwatch.live.sinks.event_store import EventStore
from maskwatch.live.sinks.factory import open_sinks
from maskwatch.live.sinks.postgresql import PostgresqlSink
from maskwatch.live.sinks.settings import SinkSettings, parse_database
from postgres import PASSWORD, Postgres
from receiver import free_port


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the user's own servers and passwords, and with short pauses."""
    for name in os.environ:
        if name.startswith(("PG", "MASKWATCH_DB")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    monkeypatch.setattr(outbox, "RETRY_POLICY", RetryPolicy(0.1, 0.2, closing_retries=2))


@pytest.fixture
def schema(postgres: Postgres) -> str:
    return postgres.new_schema()


@pytest.fixture(scope="module")
def own_server() -> Iterator[Postgres]:
    """For tests that kill it."""
    one = Postgres()
    yield one
    one.close()


def stored_tracks(url: str) -> list[int]:
    with EventStore(url) as store:
        return [record["track"] for record in store.every_record()]


def delivery_to(url: str, folder: Path) -> tuple[Delivery, list[str]]:
    lines: list[str] = []
    sinks = open_sinks(SinkSettings(db=url, outboxes=folder))
    return Delivery(sinks, on_error=lambda name, said: lines.append(f"{name}: {said}")), lines


def test_the_server_is_killed_and_comes_back(own_server: Postgres, folder: Path) -> None:
    """Away at the start, then killed in the middle of writing: one line each time, and one afterwards."""
    url = own_server.new_schema()
    name = database_name(url)
    own_server.kill()
    delivery, lines = delivery_to(url, folder)
    for number in range(50):
        delivery.put(event(number))
    wait_until(lambda: lines, "the first line")
    own_server.start()
    wait_until(lambda: len(lines) == 2, "it delivers again")
    for number in range(50, 150):
        delivery.put(event(number))
    wait_until(lambda: stored_tracks(url)[-1:] > [60], "some are stored")
    own_server.kill()
    for number in range(150, 200):
        delivery.put(event(number))
    wait_until(lambda: len(lines) == 3, "it is away again")
    own_server.start()
    wait_until(lambda: len(lines) == 4, "it delivers again")
    delivery.close(60)
    assert stored_tracks(url) == list(range(200)), "in order, none lost, none doubled"
    assert [lines[1], lines[3]] == ["postgresql: delivers again"] * 2
    for line in (lines[0], lines[2]):
        assert line.startswith(f"postgresql: {name}: ")
    reached = "; check that the server runs and can be reached from here"
    assert lines[0].endswith(reached)
    # Its processes may outlive it by a moment and give the reason.
    assert lines[2].endswith((reached, "unexpected postmaster exit; look into the log of the server"))
    (status,) = delivery.status()
    assert (status.sent, status.waiting, status.lost, status.error) == (200, 0, 0, None)


def test_events_wait_over_the_end_of_the_program(own_server: Postgres, folder: Path) -> None:
    url = own_server.new_schema()
    own_server.kill()
    delivery, lines = delivery_to(url, folder)
    for number in range(20):
        delivery.put(event(number))
    wait_until(lambda: delivery.status()[0].sent == 20, "they are in the outbox")
    delivery.close(10)
    assert lines[-1] == "postgresql: on the disk for the next start: 20 events"
    own_server.start()
    delivery, lines = delivery_to(url, folder)
    delivery.put(event(20))
    delivery.close(30)
    assert lines == []
    assert stored_tracks(url) == list(range(21))


CHILD = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drawn_events import event
from maskwatch.live.sinks.delivery import Delivery
from maskwatch.live.sinks.factory import open_sinks
from maskwatch.live.sinks.settings import SinkSettings
_, _, url, folder, source, count = sys.argv
sinks = open_sinks(SinkSettings(db=url, outboxes=Path(folder)))
delivery = Delivery(sinks, on_stored=lambda *_: os.write(1, b".") and None)
for number in range(int(count)):
    delivery.put(event(number, source=source, id=f"{source}-{number}"))
delivery.close(60)
"""


def test_two_machines_of_which_one_is_killed(schema: str, folder: Path) -> None:
    """Each with its outbox; the killed one begins again, and no event is there twice."""

    def start(source: str) -> subprocess.Popen[str]:
        words = [
            sys.executable,
            "-c",
            CHILD,
            str(Path(__file__).parent),
            schema,
            str(folder / source),
            source,
        ]
        return subprocess.Popen([*words, "30"], stdout=subprocess.PIPE, text=True)

    gate, door = start("gate"), start("door")
    assert gate.stdout is not None
    assert gate.stdout.read(10) == "." * 10
    gate.kill()
    gate.communicate()
    again = start("gate")
    for process in (again, door):
        process.communicate(timeout=120)
        assert process.returncode == 0
    with EventStore(schema) as store:
        records = list(store.every_record())
    for source in ("gate", "door"):
        assert [record["track"] for record in records if record["source"] == source] == list(range(30))


def test_retention_reaches_server_and_outbox(schema: str, folder: Path) -> None:
    delivery, _ = delivery_to(schema, folder)
    for number in range(10):
        delivery.put(event(number))
    wait_until(lambda: stored_tracks(schema) == list(range(10)), "all are there")
    assert delivery.delete_before(START + timedelta(seconds=4)) == 4
    delivery.close(10)
    assert stored_tracks(schema) == list(range(4, 10))


def test_a_database_that_is_replaced_gets_its_tables(postgres: Postgres, schema: str, folder: Path) -> None:
    delivery, _ = delivery_to(schema, folder)
    delivery.put(event(1))
    wait_until(lambda: stored_tracks(schema) == [1], "it is stored")
    postgres.sql(f"DROP TABLE {name_of(schema)}.events, {name_of(schema)}.maskwatch_schema")
    delivery.put(event(2))
    delivery.close(20)
    assert stored_tracks(schema) == [2]


def name_of(schema: str) -> str:
    return schema.rpartition("%3D")[2]


def test_an_event_that_the_database_refuses(postgres: Postgres, schema: str, folder: Path) -> None:
    """It becomes a dead letter, and the next one is stored."""
    EventStore(schema, create=True).close()
    postgres.sql(f"ALTER TABLE {name_of(schema)}.events ADD CHECK (track <> 1)")
    delivery, lines = delivery_to(schema, folder)
    for number in range(3):
        delivery.put(event(number))
    wait_until(lambda: lines, "it is reported")
    delivery.close(20)
    assert lines[0].startswith("postgresql: 1 event refused permanently")
    assert stored_tracks(schema) == [0, 2]
    assert delivery.status()[0].lost == 1


def test_what_a_role_needs(postgres: Postgres, schema: str, tmp_path: Path) -> None:
    """The rights in docs/events.md are enough, and each missing one is named."""
    name, anna = name_of(schema), schema.replace("maskwatch@", f"anna:{PASSWORD}@")
    with pytest.raises(RetryableError, match=r"no schema has been.*; grant the role the rights that docs"):
        PostgresqlSink(anna, tmp_path)
    EventStore(schema, create=True).close()
    postgres.sql(f"GRANT USAGE ON SCHEMA {name} TO anna")
    postgres.sql(f"GRANT SELECT ON {name}.events, {name}.maskwatch_schema TO anna")
    with EventStore(anna) as store:
        assert store.records() == []
        with pytest.raises(RetryableError, match=r"permission denied for table events; grant"):
            store.add(event(1))
        postgres.sql(f"GRANT INSERT ON {name}.events TO anna")
        assert store.add(event(1))
        postgres.sql(f"GRANT DELETE ON {name}.events TO anna")
        assert store.delete_before(START + timedelta(days=1)) == 1


def test_tables_of_other_programs_are_left_alone(postgres: Postgres, schema: str) -> None:
    postgres.sql(f"CREATE TABLE {name_of(schema)}.events (name text)")
    for create in (False, True):
        with pytest.raises(EventError, match="has a table events that is not maskwatch's; name another"):
            EventStore(schema, create=create)


def test_the_password_comes_from_where_it_is_kept(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    anna = postgres.url("anna")
    reached = "holds no events of maskwatch; name what --db wrote"

    def opened(address: str, match: str) -> None:
        with pytest.raises(EventError, match=match) as error:
            EventStore(address)
        assert PASSWORD not in str(error.value)

    opened(anna, "no password supplied; check user and password")
    opened(postgres.url("anna:falsch"), 'password authentication failed for user "anna"; check user and pass')
    opened(postgres.url(f"anna:{PASSWORD}"), reached)
    with monkeypatch.context() as patch:
        patch.setenv("PGPASSWORD", PASSWORD)
        opened(anna, reached)
    with monkeypatch.context() as patch:
        patch.setenv("MASKWATCH_DB_PASSWORD_FILE", str(tmp_path / "password"))
        (tmp_path / "password").write_text(PASSWORD + "\n")
        opened(anna, reached)
    (tmp_path / "pgpass").write_text(f"127.0.0.1:*:*:anna:{PASSWORD.replace(':', chr(92) + ':')}\n")
    (tmp_path / "pgpass").chmod(0o600)
    opened(anna, reached)
    (tmp_path / "service").write_text(
        f"[cameras]\nhost=127.0.0.1\nport={postgres.port}\ndbname=postgres\nuser=anna\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "service"))
    monkeypatch.setenv("PGSERVICE", "cameras")
    opened("postgresql://", reached)
    opened("postgresql://?service=cameras", reached)


def test_one_line_for_each_mistake(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = postgres.url()
    for address, said in (
        (postgres.url(database="nowhere"), 'database "nowhere" does not exist; create it: createdb'),
        (postgres.url("otto"), 'role "otto" does not exist; check user and password'),
        (postgres.url("anna:geheim"), "password authentication failed"),
        ("postgresql://anna:geheim@nohost.invalid/x", "; check the name of the host"),
        (f"postgres://127.0.0.1:{free_port()}/x", "Connection refused; check that the server runs"),
        (f"{base}?sslmode=geheim", "; check the address"),
        (f"{base}?wrong=geheim", "; check the address"),
        ("postgresql://anna:geheim@host:x/name", "is not a valid address; write postgresql://user@host"),
        (
            "mysql://anna:geheim@host/name",
            "events go to SQLite or PostgreSQL; write a path, or postgresql://",
        ),
        (base, "holds no events of maskwatch; name what --db wrote"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["events", "list", address])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert err.count("\n") == 1
        assert said in err
        assert "anna:geheim" not in err
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"--db postgresql:// .*'postgres' extra; run: pip install"):
        EventStore(base)


def test_names_of_addresses() -> None:
    for address, name in (
        ("postgresql://anna:ge@im@host:5433/cameras?sslmode=require", "postgresql://anna@host:5433/cameras"),
        ("postgresql://a,b/cameras?password=geheim", "postgresql://a,b/cameras"),
        ("postgresql:///cameras?host=/run/postgresql", "postgresql:///cameras"),
        ("postgresql://", "postgresql://"),
    ):
        assert database_name(address) == name
    for text in ("postgres://host/x", "postgresql+psycopg://host/x", "POSTGRESQL://host/x"):
        assert parse_database(text) == "postgresql://host/x"
    assert parse_database("events.sqlite") == Path("events.sqlite")
    with pytest.raises(OptionError, match="write a path, or postgresql://"):
        parse_database("postgresql+psycopg2://host/x")


def test_a_writer_that_hangs_stops_the_others_only_briefly(
    postgres: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwatch.live.sinks.event_databases._LOCK_S", 0.2)
    with EventStore(schema, create=True) as store, EventStore(schema) as other:
        with store._database.begin() as connection:
            store._database.before_insert(connection)
            with pytest.raises(RetryableError, match="lock timeout; look into the log of the server"):
                other.add(event(1))
        assert other.add(event(1))


def test_threads_of_one_program(schema: str) -> None:
    """A deletion does not make the sink wait for its connection."""
    with EventStore(schema, create=True) as store:
        threads = [threading.Thread(target=store.delete_before, args=(START,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert store.add(event(1))
        for thread in threads:
            thread.join()

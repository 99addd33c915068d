"""Jobs on a Ray cluster of two nodes on this machine: the rows of one machine, whatever dies in between."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray.data", reason="needs the extra ray: pip install 'maskwatch[ray]'")

pytestmark = [
    pytest.mark.slow,
    # Ray's own, and files that its processes leave open when they are killed.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

REFERENCE = ("--runtime", "onnxruntime", "--device", "cpu", "--precision", "float32")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, and this process connected to them."""
    import maskwatch.cluster as jobs  # before Ray: it turns the telemetry off

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "src"))  # of the nodes' processes
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            nodes.add_node(num_cpus=1)
            with jobs.connection(nodes.address):
                yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture
def album(tmp_path: Path, street: np.ndarray) -> Path:
    """Good pictures, one deeper, one that is torn and one that is text; and a video of four key frames."""
    from video_files import write_film

    folder = tmp_path / "album"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(np.roll(street, 16 * number, 1)).save(folder / f"{number} ünï.png")
    Image.fromarray(street).save(folder / "deep" / "one.bmp")
    (folder / "torn.png").write_bytes((folder / "0 ünï.png").read_bytes()[:-60])
    (folder / "text.webp").write_text("no picture")
    write_film(folder / "film.mp4", [n / 10 for n in range(40)], "mpeg4", 10, g="10")
    return folder


def run(*arguments: object) -> int:
    from maskwatch.cli.app import main

    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def plain(model: Path, folder: Path, target: Path) -> dict[str, Any]:
    run("detect", folder, "--model", model, "--threads", "1", "--json", target, *REFERENCE)
    document: dict[str, Any] = json.loads(target.read_text("utf-8"))
    return document


def names(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["source"], row["frame"] or 0) for row in rows)


# ---- The same rows ---------------------------------------------------------------------------------------


def test_json_is_that_of_one_machine(
    cluster: Any, tiny_model: Path, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = plain(tiny_model, album, tmp_path / "plain.json")
    lines = capsys.readouterr()
    code = run(
        *("detect", album, "--model", tiny_model, "--ray", cluster.address, "--workers", "1", *REFERENCE),
        *("--json", tmp_path / "ray.json"),
    )
    assert code == 1, "two pictures are skipped"
    assert json.loads((tmp_path / "ray.json").read_text("utf-8")) == expected
    assert capsys.readouterr() == lines


def test_parts_of_a_video_are_the_whole(cluster: Any, tiny_model: Path, album: Path, tmp_path: Path) -> None:
    from maskwatch.cluster import ClusterOptions, detect
    from maskwatch.cluster.rows import to_record
    from maskwatch.detector import Detector

    film = album / "film.mp4"
    detector = Detector(tiny_model, runtime="onnxruntime", precision="float32", threads=1)
    rows = detect(film, detector, ClusterOptions(workers=1, video_part_s=1.0), in_order=True).take_all()
    assert {row["part"] for row in rows} == {0, 10, 20, 30}
    assert [to_record(row) for row in rows] == plain(tiny_model, film, tmp_path / "plain.json")["results"]


@pytest.mark.parametrize("record_format", ["parquet", "jsonl"])
def test_files_hold_the_same_records_and_are_gone_on_with(
    cluster: Any, tiny_model: Path, album: Path, tmp_path: Path, record_format: Any
) -> None:
    from maskwatch.cluster import ClusterOptions, detect_to
    from maskwatch.cluster.rows import to_record
    from maskwatch.cluster.sink import read_results
    from maskwatch.detector import Detector
    from maskwatch.errors import OutputError

    expected = plain(tiny_model, album, tmp_path / "plain.json")
    out, detector = (
        tmp_path / "out",
        Detector(tiny_model, runtime="onnxruntime", precision="float32", threads=1),
    )
    one = ClusterOptions(workers=1)
    first = [str(album / name) for name in ("0 ünï.png", "film.mp4", "torn.png")]
    written, missing = detect_to(out, first, detector, one, record_format=record_format)
    assert (written.work, written.failures, missing) == (3, 1, 0)
    written, missing = detect_to(out, album, detector, one, record_format=record_format, resume=True)
    assert (written.work, missing) == (len(list(album.rglob("*.*"))) - 3, 0)

    rows = read_results(str(out), record_format).to_pylist()
    order = {source: number for number, source in enumerate(dict.fromkeys(names_in(expected)))}
    rows.sort(key=lambda row: (order[row["source"]], row["frame"] or 0))
    assert [to_record(row) for row in rows if row["error"] is None] == expected["results"]
    failures = [{"source": row["source"], "reason": row["error"]} for row in rows if row["error"] is not None]
    assert sorted(failures, key=str) == sorted(expected["failures"], key=str)

    with pytest.raises(OutputError, match="--resume"):
        detect_to(out, album, detector, record_format=record_format)
    other = Detector(tiny_model, threshold=0.9, runtime="onnxruntime", precision="float32")
    with pytest.raises(OutputError, match="another model"):
        detect_to(out, album, other, record_format=record_format, resume=True)


def names_in(document: dict[str, Any]) -> list[str]:
    return [row["source"] for row in (*document["results"], *document["failures"])]


def test_tables_of_bytes_and_of_paths(cluster: Any, tiny_model: Path, album: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from maskwatch.cluster import ClusterOptions, detect
    from maskwatch.cluster.work import Columns
    from maskwatch.detector import Detector
    from maskwatch.errors import OptionError

    files = sorted(album.glob("*.png"))
    data = [path.read_bytes() for path in files]
    titles = [f"row {number}" for number in range(len(files))]
    pq.write_table(pa.table({"jpeg": data, "title": titles}), tmp_path / "bytes.parquet")
    pq.write_table(pa.table({"file": [str(path) for path in files]}), tmp_path / "paths.parquet")
    both = [{"bytes": one, "path": title} for one, title in zip(data, titles, strict=True)]
    pq.write_table(pa.table({"image": both, "label": titles}), tmp_path / "struct.parquet")

    detector = Detector(tiny_model, runtime="onnxruntime", precision="float32", threads=1)

    def found(columns: Columns, *tables: str) -> dict[str, Any]:
        sources = [tmp_path / name for name in tables]
        rows = detect(sources, detector, ClusterOptions(workers=1, columns=columns)).take_all()
        assert len(rows) == len(files) * len(tables)
        return {row["source"]: (row["error"], row["detections"]) for row in rows}

    by_bytes = found(Columns(name="title"), "bytes.parquet")
    by_others = found(Columns(), "paths.parquet", "struct.parquet")
    assert list(map(by_bytes.get, titles)) == list(map(by_others.get, map(str, files)))
    assert {title: by_others[title] for title in titles} == by_bytes
    with pytest.raises(OptionError, match="no name; add --name-column, one of jpeg, title"):
        found(Columns(), "bytes.parquet")
    with pytest.raises(OptionError, match="--column jpg: the table has jpeg, title"):
        found(Columns("jpg", "title"), "bytes.parquet")


def test_an_address_is_listed_and_read_through_its_file_system(
    cluster: Any, tiny_model: Path, album: Path, tmp_path: Path
) -> None:
    from maskwatch.cluster import ClusterOptions, detect_to
    from maskwatch.cluster.sink import read_results
    from maskwatch.detector import Detector

    expected = plain(tiny_model, album, tmp_path / "plain.json")
    detector = Detector(tiny_model, runtime="onnxruntime", precision="float32", threads=1)
    out = (tmp_path / "out").as_uri()
    written, missing = detect_to(out, f"file://{album}", detector, ClusterOptions(workers=1))
    assert (written.failures, missing) == (2, 0)
    rows = read_results(out, "parquet").to_pylist()
    assert {row["source"].removeprefix("file://") for row in rows} == set(names_in(expected))
    good = {(row["source"].removeprefix("file://"), row["frame"]): row["detections"] for row in rows}
    assert all(good[row["source"], row["frame"]] == row["detections"] for row in expected["results"])


# ---- What dies in between --------------------------------------------------------------------------------


class Gate:
    """A server of one picture under any name, that answers only `open` requests until it is opened."""

    def __init__(self, picture: Path, at_first: int) -> None:
        data, self.left, self.opened = picture.read_bytes(), threading.Semaphore(at_first), threading.Event()
        self.stuck = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                with contextlib.suppress(OSError):  # the one who asked may be dead
                    handler.send_response(200)
                    handler.send_header("Content-Length", str(len(data)))
                    handler.end_headers()
                    sent = 0
                    if not self.left.acquire(blocking=False):
                        self.stuck.set()
                        while not self.opened.wait(5):  # a byte now and then, so that no one gives up
                            handler.wfile.write(data[sent : sent + 1])
                            sent += 1
                    handler.wfile.write(data[sent:])

            def log_message(handler, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def urls(self, count: int) -> list[str]:
        return [f"http://127.0.0.1:{self.server.server_port}/{number}.png" for number in range(count)]

    @contextlib.contextmanager
    def serving(self) -> Iterator[Gate]:
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self.opened.set()
            self.server.shutdown()
            thread.join()
            self.server.server_close()


def detector_processes() -> list[int]:
    """The actors of this test's cluster: their parents' parent is this process."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if b"ray::MapWorker" in (entry / "cmdline").read_bytes() and os.getpid() in ancestors(
                int(entry.name)
            ):
                found.append(int(entry.name))
    return found


def ancestors(process: int) -> Iterator[int]:
    while process > 1:
        status = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        process = int(status[1])
        yield process


def killed_in_between(
    model: Path, album: Path, out: Path, at_first: int, kill: Callable[[], object]
) -> list[dict[str, Any]]:
    """The rows of forty pictures, where `kill` runs while the workers wait for later ones."""
    from maskwatch.cluster import ClusterOptions, detect_to
    from maskwatch.cluster.sink import read_results
    from maskwatch.detector import Detector

    detector = Detector(model, runtime="onnxruntime", precision="float32", threads=1)
    with Gate(album / "0 ünï.png", at_first).serving() as gate, ThreadPoolExecutor(1) as pool:
        job = pool.submit(*(detect_to, out, gate.urls(40), detector, ClusterOptions()), rows_per_file=5)
        assert gate.stuck.wait(120)
        kill()
        gate.opened.set()
        written, missing = job.result()
        assert (written.work, missing) == (40, 0)
        rows = read_results(str(out), "parquet").to_pylist()
        assert names(rows) == names([{"source": url, "frame": 0} for url in gate.urls(40)])
    return rows


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_worker_costs_no_row(cluster: Any, tiny_model: Path, album: Path, tmp_path: Path) -> None:
    def kill() -> None:
        os.kill(detector_processes()[0], signal.SIGKILL)

    rows = killed_in_between(tiny_model, album, tmp_path / "out", 10, kill)
    assert all(row["error"] is None and len(row["detections"]) == 3 for row in rows)


def test_a_lost_node_costs_no_row(cluster: Any, tiny_model: Path, album: Path, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    rows = killed_in_between(
        tiny_model, album, tmp_path / "out", 10, lambda: cluster.remove_node(node, allow_graceful=False)
    )
    assert all(row["error"] is None and len(row["detections"]) == 3 for row in rows)


def test_a_killed_driver_is_gone_on_with(cluster: Any, tiny_model: Path, album: Path, tmp_path: Path) -> None:
    from maskwatch.cluster.sink import read_results

    out = tmp_path / "out"
    with Gate(album / "0 ünï.png", 25).serving() as gate:
        command = [
            *(sys.executable, "-m", "maskwatch", "detect", *gate.urls(40), "--model", str(tiny_model)),
            *("--ray", cluster.address, "--parquet", str(out), "--rows-per-file", "5", *REFERENCE),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as driver:
            deadline = time.monotonic() + 120
            while len(list(out.glob("part-*"))) < 2 and time.monotonic() < deadline:
                assert driver.poll() is None, driver.communicate()
                time.sleep(0.05)
            driver.kill()
            driver.communicate()
        before = read_results(str(out), "parquet").to_pylist()
        assert 0 < len(before) < 40
        (out / ".part-half.parquet.0.part").write_bytes(b"PAR1 half written")
        gate.opened.set()
        code = run(*command[3:], "--resume")
        assert code == 0
        rows = read_results(str(out), "parquet").to_pylist()
        assert names(rows) == names([{"source": url, "frame": 0} for url in gate.urls(40)])


# ---- Evaluation and checks -------------------------------------------------------------------------------


def test_evaluation_has_the_numbers_of_one_machine(cluster: Any, tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from drawn_data import draw_faces

    draw_faces(tmp_path / "data", 20)
    documents = []
    for name, extra in (("plain.json", ()), ("ray.json", ("--ray", cluster.address))):
        arguments = (tiny_model, tmp_path / "data", "--json", tmp_path / name, "--bootstrap", "20")
        assert run("evaluate", *arguments, *extra) == 0
        documents.append((tmp_path / name).read_text())
    assert documents[0] == documents[1]


def test_a_check_finds_what_one_machine_finds(cluster: Any, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    from drawn_data import draw_faces

    draw_faces(tmp_path / "data", 6)
    first, second, *_ = sorted((tmp_path / "data").glob("*.[jp]*g"))
    first.write_bytes(first.read_bytes()[:-60])
    second.write_text("no picture")
    documents = []
    for name, extra in (("plain.json", ()), ("ray.json", ("--ray", cluster.address))):
        code = run("data", "check", tmp_path / "data", "--json", tmp_path / name, *extra)
        documents.append((code, (tmp_path / name).read_text()))
    assert documents[0] == documents[1]
    assert documents[0][0] == 1


# ---- Quiet, and without telemetry ------------------------------------------------------------------------


def test_ray_sends_no_statistics(cluster: Any) -> None:
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()
    (session,) = {node.get_session_dir_path() for node in cluster.list_all_nodes()}
    assert not list(Path(session).glob("usage_stats*"))


def test_a_local_cluster_is_quiet_and_ends(tiny_model: Path, album: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}
    environment.pop("RAY_USAGE_STATS_ENABLED", None)
    command = [
        sys.executable,
        "-m",
        "maskwatch",
        "detect",
        str(album / "0 ünï.png"),
        "--model",
        str(tiny_model),
    ]
    done = subprocess.run(
        [*command, "--ray", "local", *REFERENCE], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{album}/0 ünï.png: 1 mask, 1 no_mask, 1 mask_incorrect" in done.stdout

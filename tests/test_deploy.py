"""deploy/: its files agree with the package and each other; their own checkers run where installed."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer

from certificates import make_certificate

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def instructions() -> list[tuple[str, str]]:
    """Name and rest of each instruction of the Dockerfile, lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def words(text: str) -> list[str]:
    """An instruction's list of words, as JSON."""
    return [str(word) for word in json.loads(text[text.index("[") :])]


@pytest.fixture
def stand_ins(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment in which npm and Python only write down what they were told, and the file of that."""
    said, folder = tmp_path / "said", tmp_path / "bin"
    folder.mkdir()
    recorder = f'#!/bin/sh\necho "$(basename "$PWD"): $(basename "$0") $*" >> {said}\n'
    venv = 'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
    for name, more in (("npm", ""), ("python3", venv)):
        (folder / name).write_text(recorder + more)
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHON": "python3"}, said


def install(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DEPLOY / "install.sh"), *arguments], env=environment, capture_output=True, text=True, cwd="/"
    )


def test_image_is_made_with_the_script_alone(stand_ins: tuple[dict[str, str], Path], tmp_path: Path) -> None:
    """What CI can run without Docker is what the image is made of."""
    runs = [rest for stage in stages()[:-1] for name, rest in stage if name == "RUN"]
    calls = [shlex.split(call) for run in runs for call in run.split(" && ")]
    assert calls == [
        ["deploy/install.sh", "page"],
        ["deploy/install.sh", "package", "/opt/maskwatch"],
        ["deploy/install.sh", "check", "/opt/maskwatch"],
    ]
    environment, said = stand_ins
    for call in calls[:2]:
        target = [str(tmp_path / "target")] if len(call) > 2 else []
        done = install(environment, call[1], *target)
        assert done.returncode == 0, done.stderr
    pip = "-m pip --disable-pip-version-check --no-input"
    assert said.read_text().splitlines() == [
        "web: npm ci --no-audit --no-fund",
        "web: npm run build",
        f"{ROOT.name}: python3 -m venv {tmp_path / 'target'}",
        f"{ROOT.name}: python {pip} install --quiet --no-cache-dir --constraint constraints.txt "
        ".[serve,live,postgres]",
        f"{ROOT.name}: python {pip} show --quiet opencv-python",
        f"{ROOT.name}: python {pip} uninstall --quiet --yes opencv-python",
        f"{ROOT.name}: python {pip} install --quiet --no-cache-dir --no-deps --force-reinstall --constraint "
        "constraints.txt opencv-python-headless",
    ]


def test_check_looks_for_faces(tmp_path: Path) -> None:
    """With this environment's own command, and with one that finds nothing."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = tmp_path / "bin" / "maskwatch"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m maskwatch "$@"\n')
    command.chmod(0o755)
    done = install(dict(os.environ), "check", str(tmp_path))
    assert "found no_mask" in done.stdout
    command.write_text('#!/bin/sh\necho \'{"results": [{"detections": []}]}\'\n')
    done = install(dict(os.environ), "check", str(tmp_path))
    assert done.returncode == 1
    assert "found []" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("page", "x"), ("package",), ("check", "a", "b"), ("other",)])
def test_script_says_how_it_is_used(arguments: tuple[str, ...]) -> None:
    done = install(dict(os.environ), *arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("deploy/install.sh page ")
    assert len(done.stderr.splitlines()) == 3


def test_image_runs_as_nobody_and_has_what_it_needs() -> None:
    page, package, final = stages()
    assert [stage[0][1].partition(" ")[0] for stage in (page, package, final)] == [
        "node:22-slim",
        "python:3.12-slim",
        "python:3.12-slim",  # the environment points at the Python that made it
    ]
    last = dict(final)
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last["USER"])
    assert last["EXPOSE"] == "8765"
    assert [name for name, _ in final].index("USER") < [name for name, _ in final].index("ENTRYPOINT")
    assert not [rest for name, rest in instructions() if name == "ADD" or "curl" in rest or "wget" in rest]


def test_image_starts_with_options_that_exist() -> None:
    from maskwatch.cli.app import app

    last = dict(stages()[-1])
    assert words(last["ENTRYPOINT"]) == ["/opt/maskwatch/bin/maskwatch"]
    verb, *options = words(last["CMD"])
    known = {text for param in typer.main.get_command(app).commands[verb].params for text in param.opts}  # type: ignore[attr-defined]
    (unit,) = re.findall(
        r"^ExecStart=\S+ (\w+) (.*)$", (DEPLOY / "maskwatch.service").read_text(), re.MULTILINE
    )
    assert unit[0] == verb
    assert {word for word in [*options, *unit[1].split()] if word.startswith("--")} <= known


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_health_check(status: int, well: bool) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (_, _, code) = words(dict(stages()[-1])["HEALTHCHECK"])
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert "8765" in code
        with pytest.raises(SystemExit) as ended:
            exec(compile(code.replace("8765", str(server.server_port)), "HEALTHCHECK", "exec"), {})
        thread.join()
    assert asked == ["/readyz"]
    assert (not ended.value.code) is well


def sent_to_docker() -> set[str]:
    """Tracked files that .dockerignore lets through, by its rules (the last that fits decides)."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text().split()

    def sent(name: str) -> bool:
        wanted = True
        parents = ["/".join(name.split("/")[:count]) for count in range(1, name.count("/") + 2)]
        for rule in rules:
            pattern = rule.removeprefix("!")
            if any(fnmatch.fnmatch(part, pattern.replace("**/", "*")) for part in parents):
                wanted = rule.startswith("!")
        return wanted

    return {name for name in done.stdout.split("\0") if name and sent(name)}


def test_everything_that_the_image_is_made_of_is_sent() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    sent = sent_to_docker()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["force-include"], project["project"]["readme"], "LICENSE", "constraints.txt"} <= sent
    assert {"deploy/install.sh", "web/package-lock.json", "src/maskwatch/weights/maskwatch-640.onnx"} <= sent
    wanted = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert {"src", "web", "pyproject.toml", "hatch_build.py"} <= wanted
    for source in wanted:
        assert any(one == source or one.startswith(f"{source}/") for one in sent), source
    assert not [
        name for name in sent if name.startswith(("tests/", "benchmarks/", "docs/", "deploy/compose"))
    ]


def read_yaml(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="pyyaml, which reads the file, is not installed")
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def test_compose_locks_the_service_in() -> None:
    compose = read_yaml("compose.yaml")
    service, prometheus = compose["services"]["maskwatch"], compose["services"]["prometheus"]
    for one in (service, prometheus):
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])
        assert one["secrets"] == ["maskwatch_token"]
    assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert words(dict(stages()[-1])["CMD"])[-1] == "/run/secrets/maskwatch_token"
    assert compose["secrets"]["maskwatch_token"]["file"] == "./secrets/token"
    assert "secrets/" in (DEPLOY / ".gitignore").read_text().split()
    for volume in prometheus["volumes"]:
        source = volume.partition(":")[0]
        assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose["volumes"]


def test_compose_has_all_that_it_names() -> None:
    compose = read_yaml("compose.yaml")
    services = compose["services"]
    shown = set()
    for service in services.values():
        profiles = set(service.get("profiles", []))
        assert {*service.get("secrets", [])} <= {*compose["secrets"]}
        shown |= {*service.get("secrets", [])}
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in compose["volumes"]
        for other in service.get("depends_on", []):  # a profile starts all that it needs
            assert profiles <= set(services[other].get("profiles", profiles))
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert shown == {*compose["secrets"]}
    assert {name for name, service in services.items() if "profiles" not in service} == {
        "maskwatch",
        "prometheus",
    }
    made = set(re.findall(r"> deploy/secrets/(\S+)", production()))
    files = [one["file"] for one in compose["secrets"].values()] + services["watch"]["env_file"]
    assert made == {Path(one).name for one in files} | {"mqtt"}


def test_compose_watches_with_options_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackers", reason="needs the extra 'live'")
    from maskwatch.cli.app import main

    compose = read_yaml("compose.yaml")
    watch, postgres = (compose["services"][name] for name in ("watch", "postgres"))
    (line,) = watch["command"]
    run, program, *arguments = shlex.split(line.replace("$$DOOR", "rtsp://192.168.1.20/stream2"))
    assert [run, program] == ["exec", *words(dict(stages()[-1])["ENTRYPOINT"])]
    kept: list[Any] = []
    monkeypatch.setattr("maskwatch.live.run.run_watch", lambda config: kept.append(config) or True)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    (config,) = kept
    assert config.sources == ("door=rtsp://192.168.1.20/stream2",)
    assert config.sinks.mqtt == "mqtt://maskwatch@mosquitto/maskwatch"
    assert f"{config.sinks.outboxes}" == watch["volumes"][0].partition(":")[2]
    made = re.search(r"install -d -o (\d+) -g (\d+) (\S+)", dict(stages()[-1])["RUN"])
    assert made is not None
    assert f"{made[1]}:{made[2]}" == dict(stages()[-1])["USER"]
    assert made[3] == str(config.sinks.outboxes)
    database = re.search(r"--db postgresql://(\w+)@(\w+)/(\w+)", line)
    assert database is not None
    variables = postgres["environment"]
    assert database.groups() == (variables["POSTGRES_USER"], "postgres", variables["POSTGRES_DB"])


@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto, which reads it, is not installed")
def test_mosquitto_takes_users_with_a_password_only(tmp_path: Path) -> None:
    paho = pytest.importorskip("paho.mqtt.client", reason="needs the extra 'live'")
    from broker import Mosquitto

    # As docs/production.md makes it.
    passwords = tmp_path / "passwords"
    passwords.write_text("maskwatch:the-password\n")
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    assert "the-password" not in passwords.read_text()
    lines = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    here = {"/run/secrets/mosquitto_passwords": str(passwords), "/mosquitto/data/": f"{tmp_path}/"}
    changed = [
        " ".join(here.get(word, word) for word in line.split())
        for line in lines
        if not line.startswith(("#", "listener", "persistence "))  # the test's broker has its own
    ]
    assert len(changed) == 3
    broker = Mosquitto(tmp_path, tuple(changed))
    try:
        codes = {}
        for password in ("the-password", "another", None):
            client = paho.Client(paho.CallbackAPIVersion.VERSION2)
            if password is not None:
                client.username_pw_set("maskwatch", password)
            client.on_connect = lambda _c, _u, _f, code, _p, key=password: codes.update({key: code.value})
            client.connect("127.0.0.1", broker.port)
            while password not in codes:
                client.loop(0.1)
            client.disconnect()
        assert codes == {"the-password": 0, "another": 135, None: 135}  # 135: not authorized
    finally:
        broker.kill()


def test_prometheus_asks_with_the_token() -> None:
    (job,) = read_yaml("prometheus.yml")["scrape_configs"]
    assert job["authorization"] == {"credentials_file": "/run/secrets/maskwatch_token"}
    assert job["static_configs"] == [{"targets": ["maskwatch:8765"]}]
    assert "metrics_path" not in job  # /metrics, where the numbers are


def test_alerts_ask_for_numbers_that_there_are() -> None:
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from maskwatch.live.capture.status import CaptureStatus
    from maskwatch.live.sinks.delivery import SinkStatus
    from maskwatch.serve.core.metrics import Metrics
    from maskwatch.serve.watcher import WatchMetrics

    metrics = Metrics()
    source = CaptureStatus("door", "waiting", 7, 0, 1, "no route to host", 0.0, None)
    metrics.add(WatchMetrics(lambda: [source], lambda: [SinkStatus("mqtt", 3, 2, 1, "away")]))
    metrics.request("POST", "/v1/detect", 200, 0.1)
    metrics.picture("tiny", ["mask"])
    metrics.failed()
    text = metrics.text().decode()
    known = {*re.findall(r"^(maskwatch_\w+)(?:\{| )", text, re.MULTILINE), "up"}
    rules = read_yaml("alerts.yml")["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"\b(maskwatch_\w+|up)\b(?=[\[{])", rule["expr"])}
    assert len(asked) >= 4
    assert asked <= known
    assert 'maskwatch_pictures_total{result="failed"} 1.0' in text
    assert 'maskwatch_source_state{source="door",state="waiting"} 1.0' in text
    assert 'maskwatch_sink_events_lost{sink="mqtt"} 1.0' in text
    assert {rule["alert"] for rule in rules} == {
        *re.findall(r"^\| `(Maskwatch\w+)`", production(), re.MULTILINE)
    }


def production() -> str:
    return (ROOT / "docs" / "production.md").read_text("utf-8")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, which checks it, is not installed")
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-kubernetes.yml"])
def test_prometheus_takes_the_files(name: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    config = (DEPLOY / name).read_text().replace("/run/secrets/maskwatch_token", str(token))
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(DEPLOY / "alerts.yml", tmp_path)
    done = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(NGINX is None, reason="nginx, which checks its site, is not installed")
def test_nginx_takes_the_site(tmp_path: Path) -> None:
    assert NGINX is not None
    certificate, key = make_certificate(tmp_path)
    site = (DEPLOY / "nginx.conf").read_text()
    site = site.replace("/etc/ssl/maskwatch/fullchain.pem", str(certificate))
    site = site.replace("/etc/ssl/maskwatch/privkey.pem", str(key))
    (tmp_path / "site.conf").write_text(site)
    paths = "".join(
        f"{name}_temp_path {tmp_path / name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path / 'pid'};\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}include {tmp_path / 'site.conf'};\n}}\n"
    )
    done = subprocess.run(
        [NGINX, "-t", "-q", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    command = tmp_path / "maskwatch"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = (DEPLOY / "maskwatch.service").read_text()
    (tmp_path / "maskwatch.service").write_text(unit.replace("/opt/maskwatch/bin/maskwatch", str(command)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "maskwatch.service")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "maskwatch.service" not in done.stderr

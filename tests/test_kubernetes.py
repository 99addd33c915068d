"""deploy/kubernetes: what Kustomize makes of it fits Kubernetes' schemas, the image and the program."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="pyyaml, which reads the manifests, is not installed")

import yaml

from test_deploy import DEPLOY, read_yaml, stages

KUBERNETES = DEPLOY / "kubernetes"
VERSIONS = ("1.30", "1.37")
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"


def kustomize(folder: Path) -> str:
    tool = next((tool for tool in ("kustomize", "kubectl") if shutil.which(tool)), None)
    if tool is None:
        pytest.skip("neither kustomize nor kubectl, which put the manifests together, is installed")
    line = [tool, "build" if tool == "kustomize" else "kustomize", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(kustomize(KUBERNETES / "example")) if one]


def only(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def workloads(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pod and container of each."""
    for kind in ("Deployment", "StatefulSet"):
        pod = only(objects, kind)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield pod, container


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas(objects: list[dict[str, Any]], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="it holds Kubernetes' schemas")
    for one in objects:
        validate.validate(one, version, strict=True)
    wrong = {**only(objects, "Service"), "spec": {"ports": [{"prot": 80}]}}
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, version, strict=True)


def test_everything_is_used(objects: list[dict[str, Any]]) -> None:
    kinds = Counter(one["kind"] for one in objects)
    once = "ConfigMap Deployment HorizontalPodAutoscaler Ingress Namespace PodDisruptionBudget Service"
    assert kinds == {**dict.fromkeys([*once.split(), "StatefulSet"], 1), "NetworkPolicy": 2}
    assert {one["metadata"].get("namespace", "maskwatch") for one in objects} == {"maskwatch"}


def test_pods_may_do_nothing_more_than_they_need(objects: list[dict[str, Any]]) -> None:
    """As the policy `restricted` of Kubernetes' Pod Security Standards demands, and more."""
    user, _, group = dict(stages()[-1])["USER"].partition(":")
    for pod, container in workloads(objects):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": int(user),
            "runAsGroup": int(group),
            "fsGroup": int(group),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= {*container["resources"]["requests"]}
        assert "memory" in container["resources"]["limits"]
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        assert {one["name"] for one in mounts.values()} >= {one["name"] for one in pod["volumes"]}
        # HOME in the image, and the working directory.
        assert {"HOME=/tmp", "WORKDIR /tmp"} <= written_places()
        assert "readOnly" not in mounts["/tmp"]
        assert not [one for one in mounts.values() if "subPath" in one]
    namespace = only(objects, "Namespace")["metadata"]["labels"]
    assert namespace["pod-security.kubernetes.io/enforce"] == "restricted"


def written_places() -> set[str]:
    last = stages()[-1]
    variables = {word for name, rest in last if name == "ENV" for word in rest.split()}
    return variables | {f"{name} {rest}" for name, rest in last}


def test_selectors_find_the_pods(objects: list[dict[str, Any]]) -> None:
    serve, watch = (
        only(objects, kind)["spec"]["template"]["metadata"]["labels"]
        for kind in ("Deployment", "StatefulSet")
    )
    for kind in ("Deployment", "StatefulSet"):
        spec = only(objects, kind)["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    assert only(objects, "Service")["spec"]["selector"] == serve
    assert only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == serve
    assert policies["maskwatch-serve"]["podSelector"]["matchLabels"] == serve
    assert policies["maskwatch-watch-entrance"]["podSelector"]["matchLabels"] == watch
    assert serve[COMPONENT] != watch[COMPONENT]
    target = only(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == only(objects, "Deployment")["metadata"]["name"]
    assert "replicas" not in only(objects, "Deployment")["spec"]  # or each apply would undo the autoscaler


def test_network_policies(objects: list[dict[str, Any]]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    for policy in policies.values():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
    serve, watch = policies["maskwatch-serve"], policies["maskwatch-watch-entrance"]
    assert not serve.get("egress")
    (way,) = serve["ingress"]
    assert way["ports"] == [{"port": "http"}]
    assert not watch.get("ingress")
    ports = {port["port"] for way in watch["egress"] for port in way["ports"]}
    assert ports == {53, 554, 80, 443, 5432, 1883}
    # Kustomize adds the group's label to matchLabels, and the group is not a label of those.
    assert "matchLabels" not in json.dumps(watch["egress"])


def test_probes_ask_for_what_there_is(objects: list[dict[str, Any]], tiny_model: Path) -> None:
    pytest.importorskip("httpx2", reason="Starlette's test client needs it")
    from serving import TOKEN, client_of

    _, container = next(workloads(objects))
    (port,) = container["ports"]
    assert str(port["containerPort"]) == dict(stages()[-1])["EXPOSE"]
    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    with client_of(tiny_model, token=TOKEN) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        for probe in probes.values():
            assert probe["httpGet"]["port"] == port["name"]
            assert client.get(probe["httpGet"]["path"], headers={"Host": "10.0.0.7:8765"}).status_code == 200
        service.draining.set()
        codes = {name: client.get(probe["httpGet"]["path"]).status_code for name, probe in probes.items()}
        assert codes == {"startup": 503, "readiness": 503, "liveness": 200}
        (rule,) = only(objects, "Ingress")["spec"]["rules"]
        paths = {one["path"]: one["pathType"] for one in rule["http"]["paths"]}
        api = {*client.get("/openapi.json").json()["paths"], "/openapi.json"}
    behind = {path for path in api if path in paths or path.startswith("/v1/")}
    assert paths["/v1"] == "Prefix"
    assert api - behind == {"/healthz", "/readyz", "/metrics"}  # for the cluster alone
    assert paths["/"] == "Exact"  # a prefix would open /metrics
    backends = {json.dumps(one["backend"]) for one in rule["http"]["paths"]}
    service_port = only(objects, "Service")["spec"]["ports"][0]["name"]
    assert backends == {json.dumps({"service": {"name": "maskwatch-serve", "port": {"name": service_port}}})}


def test_page_is_behind_the_ingress(objects: list[dict[str, Any]]) -> None:
    static = DEPLOY.parent / "src" / "maskwatch" / "serve" / "static"
    if not (static / "index.html").is_file():
        pytest.skip("the page is not built")
    (rule,) = only(objects, "Ingress")["spec"]["rules"]
    paths = {one["path"] for one in rule["http"]["paths"]}
    # label.html is the page of `maskwatch label`.
    files = {f"/{one.name}" for one in static.iterdir() if one.suffix != ".html"}
    assert files <= paths


def parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch, module: str, function: str) -> Any:
    """What the command makes of its arguments, as its settings; it does not run."""
    from maskwatch.cli.app import main

    kept: list[Any] = []
    monkeypatch.setattr(module + "." + function, lambda settings, *_: kept.append(settings) or True)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code
    return kept[0]


def test_arguments_of_serve(
    objects: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
    pod, container = next(workloads(objects))
    (option,) = [word for word in container["args"] if word.startswith("--token-file=")]
    path = Path(option.partition("=")[2])
    (volume,) = [one for one in pod["volumes"] if "secret" in one]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == volume["name"]]
    assert str(path) == f"{mount['mountPath']}/{volume['secret']['items'][0]['path']}"
    assert pod["securityContext"]["fsGroup"]  # 0440: the group may read it
    token = tmp_path / "token"
    token.write_text("a-token-of-the-tests\n")
    arguments = [word.replace(str(path), str(token)) for word in container["args"]]
    monkeypatch.delenv("MASKWATCH_TOKEN", raising=False)
    settings = parsed(arguments, monkeypatch, "maskwatch.serve.server", "run_server")
    assert settings.host == "0.0.0.0"
    assert settings.port == container["ports"][0]["containerPort"]
    from maskwatch.serve.server import _FLUSH_S

    grace_s = pod["terminationGracePeriodSeconds"]
    assert grace_s >= settings.drain_s + 2 * settings.limits.timeout_s + _FLUSH_S
    readiness = container["readinessProbe"]
    late_s = readiness["periodSeconds"] * readiness["failureThreshold"] + readiness["timeoutSeconds"]
    assert settings.drain_s >= late_s  # by then no requests come
    (metric,) = only(objects, "HorizontalPodAutoscaler")["spec"]["metrics"]
    wanted = metric["pods"]["target"]["averageValue"]
    assert wanted.endswith("m")
    # It has to scale before a replica refuses requests.
    assert int(wanted[:-1]) / 1000 < settings.inference_workers + settings.limits.waiting


def test_arguments_and_configuration_of_watch(
    objects: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackers", reason="needs the extra 'live'")
    from maskwatch.live.tracking.zones_file import read_zones

    pod, container = list(workloads(objects))[1]
    secret = {name: f"rtsp://viewer:secret@192.168.1.20/{name}" for name in ("DOOR", "HALL")}
    arguments = [re.sub(r"\$\((\w+)\)", lambda match: secret[match[1]], word) for word in container["args"]]
    config = parsed(arguments, monkeypatch, "maskwatch.live.run", "run_watch")
    assert config.sources == tuple(f"{name.lower()}={address}" for name, address in secret.items())
    assert "postgresql:" in str(config.sinks.db)
    assert config.sinks.mqtt == "mqtt://maskwatch@mosquitto/maskwatch"
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    (claim,) = only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert mounts[str(config.sinks.outboxes)] == claim["metadata"]["name"]
    generated = only(objects, "ConfigMap")
    (volume,) = [one for one in pod["volumes"] if "configMap" in one]
    assert volume["configMap"]["name"] == generated["metadata"]["name"]
    assert mounts[str(config.zones.parent)] == volume["name"]
    zones = tmp_path / config.zones.name
    zones.write_text(generated["data"][config.zones.name])
    read = read_zones(zones)
    names = {word.partition("=")[0] for word in config.sources}
    assert {one.source for one in (*read.zones, *read.lines)} <= names | {None}
    assert only(objects, "StatefulSet")["spec"]["replicas"] == 1


def test_variables_are_read(objects: list[dict[str, Any]]) -> None:
    """By Maskwatch, or by libpq."""
    pq = pytest.importorskip("psycopg.pq", reason="psycopg, which knows libpq's variables, is not installed")
    known = {one.envvar.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
    sources = (DEPLOY.parent / "src" / "maskwatch").rglob("*.py")
    known |= {name for path in sources for name in re.findall(r'"(MASKWATCH_\w+)"', path.read_text("utf-8"))}
    given = {one["name"] for _, container in workloads(objects) for one in container.get("env", [])}
    assert given == {"PGPASSWORD", "MASKWATCH_MQTT_PASSWORD"}
    assert given <= known


def test_autoscaler_and_prometheus_ask_for_numbers_that_there_are(objects: list[dict[str, Any]]) -> None:
    pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
    from maskwatch.serve.core.metrics import Metrics

    names = {*re.findall(r"^(maskwatch_\w+)(?:\{| )", Metrics().text().decode(), re.MULTILINE)}
    (metric,) = only(objects, "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = read_yaml("kubernetes/prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == metric["pods"]["metric"]["name"]
    asked = {*re.findall(r"maskwatch_\w+", rule["seriesQuery"] + rule["metricsQuery"])}
    assert asked <= names
    (job,) = read_yaml("prometheus-kubernetes.yml")["scrape_configs"]
    labels = {one.get("target_label") for one in job["relabel_configs"]} - {None}
    assert labels == {*rule["resources"]["overrides"]} == {*re.findall(r'(\w+)!=""', rule["seriesQuery"])}
    assert (job["job_name"], job["authorization"]) == (
        "maskwatch",  # for which alerts.yml asks
        {"credentials_file": "/run/secrets/maskwatch_token"},
    )
    wanted = [one["regex"] for one in job["relabel_configs"] if one.get("action") == "keep"]
    pod = only(objects, "Deployment")["spec"]["template"]
    assert wanted[0] == f"{pod['metadata']['labels'][NAME]};{pod['metadata']['labels'][COMPONENT]}"
    assert wanted[1] == pod["spec"]["containers"][0]["ports"][0]["name"]


def test_secrets_of_the_docs_are_those_that_the_pods_use(objects: list[dict[str, Any]]) -> None:
    text = (DEPLOY.parent / "docs" / "production.md").read_text("utf-8").replace("\\\n", " ")
    made = {
        words[words.index("generic") + 1]: {
            word.partition("=")[2].partition("=")[0] for word in words if word.startswith("--from-")
        }
        for words in map(shlex.split, re.findall(r"^kubectl .*create secret generic .*$", text, re.MULTILINE))
    }
    used: dict[str, set[str]] = {}
    for pod, container in workloads(objects):
        for one in container.get("env", []):
            ref = one["valueFrom"]["secretKeyRef"]
            used.setdefault(ref["name"], set()).add(ref["key"])
        for one in container.get("envFrom", []):
            keys = re.findall(r"\$\((\w+)\)", " ".join(container["args"]))
            used.setdefault(one["secretRef"]["name"], set()).update(keys)
        for volume in pod["volumes"]:
            if "secret" in volume:
                keys = {one["key"] for one in volume["secret"]["items"]}
                used.setdefault(volume["secret"]["secretName"], set()).update(keys)
    assert made == used

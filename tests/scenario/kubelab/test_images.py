"""Images on a real lab: each gets the program that the registry names, and its owner is told when it is not its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel.kubelab.conftest import unique
from scenario.kubelab.test_lab import install_plugin, kubectl, left_behind

from kubelab.lab import Lab, LabError, LabOptions

pytestmark = pytest.mark.scenario
Run = Callable[..., str]

EXTENSION = """
images:
  - images: [example/tool, "example/tools/*:v1*"]
    about: a script
    entrypoint: [sh, -c, 'echo "$0 $* $COLOUR in $(pwd) as $(id -u)"; exec sleep 100000']
    cmd: [one, two]
    env: {COLOUR: blue}
    workingDir: /srv/tool
    user: "1234"
  - images: [example/database]
    about: a database
    entrypoint: [no-such-database]
    needs: {program: no-such-database, package: database-server}
"""
SITE = "server { listen 8081; location / { return 200 'from the ConfigMap'; } }"
CONTAINERS: dict[str, dict[str, Any]] = {
    "client": {"image": "busybox:1.36", "command": ["/bin/ash", "-c", "sleep 100000"]},
    "nginx": {"image": "nginx:1.27", "volumeMounts": [{"name": "site", "mountPath": "/etc/nginx/conf.d"}]},
    "redis": {"image": "redis:alpine", "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 1000},
              "volumeMounts": [{"name": "scratch", "mountPath": "/data"}]},
    "postgres": {"image": "postgres:16", "env": [{"name": "POSTGRES_PASSWORD", "value": "secret"},
                                                 {"name": "POSTGRES_DB", "value": "shop"}]},
    "agnhost": {"image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "args": ["netexec", "--http-port", "8000"]},
    "mock": {"image": "quay.io/cilium/json-mock:v1.3.8@sha256:5aad"},
    "unknown": {"image": "example.com/unknown:1", "ports": [{"containerPort": 8080}]},
    "replaced": {"image": "example.com/app", "command": ["/app"], "ports": [{"containerPort": 8080}]},
    "tool": {"image": "example/tool:2", "args": ["three"]},
    "tools": {"image": "example/tools/any:v1.2"},
    "own": {"image": "example/tool", "command": ["sh", "-c", "echo own $COLOUR; sleep 100000"],
            "workingDir": "/new/place"},
    "database": {"image": "example/database"},
}  # fmt: skip
VOLUMES = [{"name": "site", "configMap": {"name": "site"}}, {"name": "scratch", "emptyDir": {}}]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    file = tmp_path_factory.mktemp("images") / "images.yaml"
    file.write_text(EXTENSION)
    made = Lab(unique("i"))
    made.up(LabOptions(nodes=1, images=file))
    try:
        install_plugin(made)
        made.wait_ready()
        pods = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
             "spec": {"containers": [{"name": "c", **spec}], "volumes": VOLUMES}}
            for name, spec in CONTAINERS.items()
        ]  # fmt: skip
        site = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site"}, "data": {"site.conf": SITE}}
        listed = {"apiVersion": "v1", "kind": "List", "items": [site, *pods]}
        kubectl(made, "apply", "-f", "-", stdin=json.dumps(listed))
        running = [f"pod/{name}" for name in CONTAINERS if name != "database"]
        kubectl(made, "wait", "--for=condition=Ready", *running, "--timeout=40s")
        yield made
    finally:
        made.down()
        assert left_behind(made.name) == []


@pytest.fixture
def ask(lab: Lab) -> Run:
    """Runs a command in the client; ``{name}`` is the address of a pod."""
    listed = json.loads(kubectl(lab, "get", "pods", "-o", "json"))["items"]
    addresses = {item["metadata"]["name"]: item["status"].get("podIP", "") for item in listed}

    def run(*words: str, pod: str = "client", check: bool = True) -> str:
        return kubectl(lab, "exec", pod, "--", *(word.format(**addresses) for word in words), check=check)

    return run


def events(lab: Lab, pod: str, reason: str) -> list[str]:
    wanted = f"involvedObject.name={pod},reason={reason}"
    found = json.loads(kubectl(lab, "get", "events", "--field-selector", wanted, "-o", "json"))["items"]
    return [item["message"] for item in found]


def test_servers_of_the_machine_behave_as_in_their_images(lab: Lab, ask: Run) -> None:
    assert ask("curl", "-s", "http://{nginx}:8081/") == "from the ConfigMap"
    assert '"GET / HTTP/1.1" 200' in kubectl(lab, "logs", "nginx")
    assert ask("nc", "-z", "-w2", "{redis}", "6379") == ""
    assert ask("redis-cli", "-h", "{redis}", "set", "a", "b", pod="redis").strip() == "OK"
    query = "PGPASSWORD=secret psql -h 127.0.0.1 -U postgres -d shop -Atc 'select 6*7'"
    for _ in range(100):  # each try is a process: the server answers once it is initialised
        if answer := ask("sh", "-c", query, pod="postgres", check=False):
            break
    assert answer.strip() == "42"


def test_commands_at_the_paths_of_images(ask: Run) -> None:
    assert ask("/agnhost", "connect", "{nginx}:8081") == ""
    assert "SERVING" in ask("/bin/grpc_health_probe", "-addr={unknown}:8080")
    assert "public information" in ask("wget", "-qO-", "http://{mock}/public")
    assert ask("curl", "-s", "http://{agnhost}:8000/dial?host={agnhost}&port=8081&protocol=udp&request=hostname") == (
        '{"responses": ["agnhost"]}'
    )
    for command in ("dig", "nslookup", "ping", "tar", "iperf3", "vi", "telnet", "traceroute"):
        assert ask("which", command).strip().endswith(command)


def test_unknown_images_are_told_of(lab: Lab, ask: Run) -> None:
    assert '"pod": "unknown"' in ask("curl", "-s", "http://{unknown}:8080/")
    (message,) = events(lab, "unknown", "StandIn")
    assert 'Image "example.com/unknown:1" is not in the registry of stand-ins' in message
    assert "cilium lab up --images FILE" in message
    assert '"pod": "replaced"' in ask("curl", "-s", "http://{replaced}:8080/")
    assert "example.com/app" in events(lab, "replaced", "StandIn")[0]
    assert events(lab, "mock", "StandIn") == []


def test_a_users_entry(lab: Lab) -> None:
    assert kubectl(lab, "logs", "tool") == "three  blue in /srv/tool as 1234\n"
    assert kubectl(lab, "logs", "tools") == "one two blue in /srv/tool as 1234\n"
    assert kubectl(lab, "logs", "own") == "own blue\n"
    assert kubectl(lab, "exec", "own", "--", "pwd") == "/new/place\n"


def test_a_missing_program_is_named_with_its_package(lab: Lab) -> None:
    status = json.loads(kubectl(lab, "get", "pod", "database", "-o", "json"))["status"]
    waiting = status["containerStatuses"][0]["state"]["waiting"]
    assert waiting["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert "needs no-such-database, which this machine lacks: apt-get install database-server" in waiting["message"]
    assert any("apt-get install database-server" in message for message in events(lab, "database", "Failed"))


def test_a_bad_file_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text("images: [{images: [redis], about: x, standin: nope}]")
    other = Lab(unique("i"))
    with pytest.raises(LabError, match=r"images\.yaml: images\[0\] \(redis\): standin: 'nope': no such stand-in"):
        other.up(LabOptions(nodes=1, images=file))
    assert left_behind(other.name) == []

"""A lab whose nodes run containerd: pods of imported images beside processes, through the real kubectl."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, CommandError, addresses, client, curl, lacks
from scenario.cri import images

from kubelab.lab import containerd
from kubelab.lab.lab import Lab
from kubelab.underlay import cgroups

pytestmark = pytest.mark.scenario
NS, IMAGE = "images", "registry.test/web:1"
SERVE = ["sh", "-c", 'echo "starts as $(id -u)"; exec httpd -f -p 8080 -h /srv']


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout, and one as `docker save` writes it."""
    directory = tmp_path_factory.mktemp("images")
    served = {"srv/index.html": b"from an image\n"}
    images.shell(directory / "web.tar", IMAGE, SERVE, files=served, environment=["GREETING=hello"])
    images.shell(directory / "user.tar", "user:1", ["sh", "-c", "id -u; exit 3"], user="web")
    images.as_docker_save(directory / "user.tar", directory / "saved.tar.gz", "saved:1")
    return directory


@pytest.fixture(scope="module")
def lab(tars: Path) -> Iterator[Cluster]:
    if reason := lacks() or containerd.lacks():
        pytest.fail(reason)  # make setup installs containerd and runc
    cluster = Cluster(f"t{os.getpid()}-cri")
    values = tars / "values.yaml"
    values.write_text("kubeProxyReplacement: true\n")
    try:
        cluster.up("--runtime", "containerd", nodes=2, values=values)
        cluster.kubectl("create", "namespace", NS)
        yield cluster
    finally:
        cluster.down()


def image(cluster: Cluster, *words: object, **options: Any) -> str:
    return cluster.run(BIN / "cilium", "lab", "image", *words, "--name", cluster.name, **options)


def pod(name: str, picture: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": picture, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def state(cluster: Cluster, name: str) -> dict[str, Any]:
    status: dict[str, Any] = cluster.get("-n", NS, "pod", name)["status"]["containerStatuses"][0]
    return status


def group_of(cluster: Cluster, name: str) -> Path:
    """The cgroup of its container on node1."""
    found = cluster.get("-n", NS, "pod", name)
    identifier = found["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    return containerd.container_group(cgroups.node_path(cluster.name, "node1"), found["metadata"]["uid"], identifier)


def waiting(cluster: Cluster, name: str, reason: str) -> str:
    """The message with which a container waits for this reason."""
    found = cluster.eventually(
        lambda: (entry := state(cluster, name)["state"].get("waiting", {})).get("reason") == reason and entry,
        f"{name} waits: {reason}",
    )
    return str(found["message"])


def test_a_deployment_waits_for_its_image_and_serves_when_it_was_loaded(lab: Cluster, tars: Path) -> None:
    """Also: node status, list, Service, both families, exec, logs, port-forward, a process pod beside it."""
    versions = lab.get("nodes")["items"]
    assert all(node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://1.") for node in versions)
    template = pod("web", IMAGE, container={"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}})
    lab.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NS},
         "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
             "metadata": {"labels": {"app": "web"}}, "spec": template["spec"]}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NS},
         "spec": {"selector": {"app": "web"}, "ipFamilyPolicy": "RequireDualStack",
                  "ports": [{"port": 80, "targetPort": 8080}]}},
    )  # fmt: skip
    name = lab.eventually(lambda: lab.get("-n", NS, "pods")["items"][0]["metadata"]["name"], "a pod")
    assert "cilium lab image load" in waiting(lab, name, "ImagePullBackOff")

    assert image(lab, "load", tars / "web.tar") == f"loaded {IMAGE}\n"
    lab.kubectl("-n", NS, "rollout", "status", "deployment/web", "--timeout=20s")
    row = next(line.split() for line in image(lab, "list").splitlines() if line.startswith(IMAGE))
    assert row[2:] == ["node1,", "node2"]
    found = lab.get("-n", NS, "pods", "-l", "app=web")["items"]
    assert {item["spec"]["nodeName"] for item in found} == {"node1", "node2"}
    status = found[0]["status"]["containerStatuses"][0]
    assert status["containerID"].startswith("containerd://")
    assert status["imageID"].startswith("sha256:")
    reasons = {event["reason"] for event in lab.get("-n", NS, "events")["items"]}
    assert {"Failed", "BackOff", "Pulled", "Created", "Started"} <= reasons

    lab.apply({**client("process", "node1"), "metadata": {"name": "process", "namespace": NS, "labels": {"app": "p"}}})
    lab.wait_ready(NS)
    service = lab.get("-n", NS, "service", "web")["spec"]["clusterIPs"]
    for source in (found[0]["metadata"]["name"], "process"):
        for target in (*service, *addresses(found[0]).values(), *addresses(found[1]).values()):
            port = 80 if target in service else 8080
            lab.eventually(
                lambda target=target, port=port, source=source: (
                    lab.exec(NS, source, *curl(target, port), check=False) == "from an image\n"
                ),
                f"{source} reaches {target}",
            )


@pytest.fixture
def web(lab: Cluster, tars: Path) -> str:
    """A running pod of the image."""
    image(lab, "load", tars / "web.tar")
    lab.apply(pod("single", IMAGE, nodeName="node1"))
    lab.kubectl("-n", NS, "wait", "pod/single", "--for=condition=Ready", "--timeout=20s")
    return "single"


def test_exec_logs_and_port_forward(lab: Cluster, web: str) -> None:
    assert lab.exec(NS, web, "sh", "-c", 'echo "$GREETING from $HOSTNAME"') == f"hello from {web}\n"
    fed = lab.kubectl("-n", NS, "exec", "-i", web, "--", "cat", stdin="through the streaming server\n" * 1000)
    assert fed == "through the streaming server\n" * 1000
    with pytest.raises(CommandError, match="exit code 7"):
        lab.exec(NS, web, "sh", "-c", "echo told >&2; exit 7")
    assert '"nothing-like-it": executable file not found' in lab.exec(NS, web, "nothing-like-it", check=False)
    assert lab.kubectl("-n", NS, "logs", web) == "starts as 0\n"
    stamped = lab.kubectl("-n", NS, "logs", web, "--timestamps", "--tail=1").split(" ", 1)
    assert stamped[0].endswith("Z")
    assert stamped[1] == "starts as 0\n"
    argv = [BIN / "kubectl", "-n", NS, "port-forward", f"pod/{web}", ":8080"]
    with subprocess.Popen(argv, env=lab.environment, stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
            assert lab.run("curl", "-sS", "-m", "5", f"http://127.0.0.1:{port}/") == "from an image\n"
        finally:
            forward.terminate()


def test_a_policy_holds_between_a_container_and_a_process(lab: Cluster, web: str) -> None:
    for name in ("friend", "stranger"):
        lab.apply({**client(name, "node2"), "metadata": {"name": name, "namespace": NS, "labels": {"role": name}}})
    lab.apply(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "friends", "namespace": NS},
         "spec": {"endpointSelector": {"matchLabels": {"app": web}},
                  "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]}}
    )  # fmt: skip
    lab.wait_ready(NS)
    for target in addresses(lab.get("-n", NS, "pod", web)).values():
        for name, words in (("friend", "from an image"), ("stranger", "exit code 28")):  # of curl: nobody answered
            lab.eventually(
                lambda target=target, name=name, words=words: words in lab.exec(NS, name, *curl(target), check=False),
                f"{name} to {target}: {words}",
            )
    lab.kubectl("-n", NS, "delete", "cnp", "friends")


def test_containers_outlive_kubelet_and_containerd(lab: Cluster, web: str) -> None:
    before = state(lab, web)
    made = Lab(lab.name)
    made.stop("kubelet-node1", kill=True)
    made.stop("containerd-node1", kill=True)
    made.start_kubelet("node1")  # and containerd, which it needs
    lab.eventually(lambda: lab.exec(NS, web, "echo", "here") == "here\n", "exec works again")
    assert state(lab, web) == before
    init = next(pid for pid in cgroups.members(group_of(lab, web)) if pid)
    made.stop("kubelet-node1", kill=True)
    os.kill(init, signal.SIGKILL)
    made.start_kubelet("node1")
    last = lab.eventually(lambda: state(lab, web)["lastState"].get("terminated"), "an end that no kubelet saw")
    assert last["exitCode"] == 137
    lab.eventually(lambda: lab.exec(NS, web, "echo", "again") == "again\n", "it was started again")


def test_a_container_that_ends_is_started_again_with_its_exit_code_known(lab: Cluster, tars: Path) -> None:
    """The image is of `docker save`, compressed; its user and command are taken."""
    assert image(lab, "load", tars / "saved.tar.gz") == "loaded docker.io/library/saved:1\n"
    lab.apply(pod("ends", "saved:1", restartPolicy="OnFailure"))
    last = lab.eventually(lambda: state(lab, "ends")["lastState"]["terminated"], "the first end")
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    lab.eventually(lambda: state(lab, "ends")["restartCount"] >= 2, "a second try")
    assert lab.kubectl("-n", NS, "logs", "ends", "--previous") == "1000\n"
    lab.apply(pod("bad", "saved:1", container={"command": ["/no/such/program"]}, restartPolicy="Never"))
    ended = lab.eventually(lambda: state(lab, "bad")["state"]["terminated"], "a start that fails")
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "/no/such/program" in ended["message"]
    lab.apply(pod("root", IMAGE, securityContext={"runAsNonRoot": True}))
    assert "image will run as root" in waiting(lab, "root", "CreateContainerConfigError")
    assert {entry["metadata"]["name"] for entry in lab.get("runtimeclasses")["items"]} == {"process", "runc"}
    lab.apply(pod("classed", "debian:12", runtimeClassName="process", container={"command": ["sleep", "60"]}))
    lab.apply(pod("standin", "nginx"))
    for name in ("classed", "standin"):
        lab.eventually(lambda name=name: state(lab, name)["containerID"].startswith("kubelab://"), f"{name}, a process")
    lab.apply(pod("never", "absent:1", container={"imagePullPolicy": "Never"}))
    assert "cilium lab image load" in waiting(lab, "never", "ErrImageNeverPull")


def test_security_volumes_and_environment_reach_the_container(lab: Cluster, tars: Path) -> None:
    image(lab, "load", tars / "web.tar")
    lab.kubectl("-n", NS, "create", "configmap", "settings", "--from-literal=key=value")
    script = """id -u; id -g; cat /etc/settings/key; echo; echo "$NODE"
        { echo > /x; } 2> /dev/null || echo readonly; cat /proc/1/status; exec sleep 60"""
    container = {
        "command": ["sh", "-c", script],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings", "readOnly": True}],
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "readOnlyRootFilesystem": True,
                            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    lab.apply(pod("secure", IMAGE, container=container, volumes=volumes, nodeName="node2"))
    said = lab.eventually(lambda: "CapBnd" in (text := lab.kubectl("-n", NS, "logs", "secure")) and text, "its words")
    lines = said.splitlines()
    assert lines[:5] == ["1000", "1000", "value", "node2", "readonly"]
    assert "NoNewPrivs:\t1" in lines
    assert "CapBnd:\t0000000000000000" in lines


def test_tars_that_are_no_images_are_refused(lab: Cluster, tars: Path) -> None:
    nonsense = tars / "nonsense.tar"
    nonsense.write_bytes(b"no tar at all")
    told = image(lab, "load", nonsense, check=False)
    assert "nonsense.tar: not a tar" in told
    assert "docker save" in told
    assert "no such file" in image(lab, "load", tars / "absent.tar", check=False).lower()


def test_removal_leaves_nothing(lab: Cluster, web: str) -> None:
    """Of a pod: sandbox, containers, shims. Of the lab: processes, cgroups, mounts."""
    lab.kubectl("delete", "namespace", NS, "--wait=true", timeout=60)
    for node in ("node1", "node2"):
        listed = lab.node(node, "ctr", "-n", "k8s.io", "containers", "list", "-q")
        assert listed.split() == []
        group = (cgroups.node_path(lab.name, node) / containerd.GROUP).parent
        lab.eventually(lambda group=group: [entry.name for entry in group.iterdir() if entry.is_dir()] == ["daemon"],
                       f"no cgroups of containers on {node}")  # fmt: skip
        programs = [Path(f"/proc/{pid}/comm").read_text() for pid in cgroups.members(group / "daemon")]
        assert programs == ["containerd\n"]
    assert "down" in lab.down()
    assert not cgroups.lab_path(lab.name).exists()
    mounts = Path("/proc/self/mounts").read_text()
    assert lab.name not in mounts

"""A lab whose nodes run containerd: pods of imported images beside processes, through the real kubectl."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from scenario.cluster import BIN, Cluster, CommandError, addresses, client, curl, lacks
from scenario.cri import images
from scenario.terminal import Step, on_terminal

from kubelab.lab import containerd
from kubelab.lab.lab import Lab
from kubelab.underlay import cgroups, controllers

pytestmark = pytest.mark.scenario
NS, IMAGE, RICH = "images", "registry.test/web:1", "registry.test/rich:1"
SERVE = ["sh", "-c", 'echo "starts as $(id -u)"; exec httpd -f -p 8080 -h /srv']
ENTRY = b"""echo "$* in $PWD as $(id -u), $GREETING"
trap "echo asked to stop; exit 7" USR1
while :; do sleep 0.1; done
"""
FOREVER = "while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout, one of several platforms with all that an image can say, and one as `docker save` writes it."""
    directory = tmp_path_factory.mktemp("images")
    served = {"srv/index.html": b"from an image\n"}
    images.shell(directory / "web.tar", IMAGE, SERVE, files=served, environment=["GREETING=hello"])
    images.shell(
        directory / "one.tar", "one:1", ["from", "the image"], entrypoint=["/applets/sh", "/entry"], user="web",
        files={**served, "entry": ENTRY}, working_directory="/srv", environment=["GREETING=hello"],
        stop_signal="SIGUSR1",
    )  # fmt: skip
    images.as_index(directory / "one.tar", directory / "rich.tar", RICH)
    images.shell(directory / "user.tar", "user:1", ["sh", "-c", "id -u; exit 3"], user="web")
    images.as_docker_save(directory / "user.tar", directory / "saved.tar.gz", "saved:1")
    return directory


@pytest.fixture(scope="module")
def lab(tars: Path) -> Iterator[Cluster]:
    """node2 joins when two images were loaded."""
    if reason := lacks() or containerd.lacks():
        pytest.fail(reason)  # make setup installs containerd and runc
    cluster = Cluster(f"t{os.getpid()}-cri")
    values = tars / "values.yaml"
    values.write_text("kubeProxyReplacement: true\n")
    try:
        cluster.up("--runtime", "containerd", nodes=1, values=values)
        assert image(cluster, "load", tars / "saved.tar.gz") == "loaded docker.io/library/saved:1\n"
        assert image(cluster, "load", tars / "rich.tar") == f"loaded {RICH}\n"
        Lab(cluster.name).add_node()
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
    assert status["imageID"].startswith("registry.test/web@sha256:")
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


def test_terminals(lab: Cluster, web: str) -> None:
    """exec and attach: size, its change, exit codes, Ctrl-C; input and its end."""

    def kubectl(*words: str, script: Sequence[Step]) -> tuple[str, int]:
        return on_terminal([str(BIN / "kubectl"), "-n", NS, *words], lab.environment, script)

    resized = [("# ", "stty size\n"), ("31 97", (50, 120)), ("# ", "stty size\n"), ("50 120", "exit 5\n")]
    screen, code = kubectl("exec", "-it", web, "--", "sh", script=resized)
    assert (code, "exit code 5" in screen) == (5, True)
    stopped = [("go", "\x03"), ("# ", "exit\n")]
    assert kubectl("exec", "-it", web, "--", "sh", "-i", "-c", "echo go; sleep 60", script=stopped[:1])[1] == 130

    reads = "echo reads; while read line; do echo got $line; done; echo end; exit 3"
    lab.apply(
        pod("shell", IMAGE, container={"command": ["sh"], "stdin": True, "tty": True}, restartPolicy="Never"),
        pod("reader", IMAGE, container={"command": ["sh", "-c", reads], "stdin": True, "stdinOnce": True},
            restartPolicy="Never"),
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/shell", "pod/reader", "--for=condition=Ready", "--timeout=20s")
    attached = [("", "\nstty size\n"), ("31 97", (50, 120)), ("# ", "stty size\n"), ("50 120", "exit 4\n")]
    kubectl("attach", "-it", "shell", script=attached)
    assert "got one\ngot two\nend" in lab.kubectl("-n", NS, "attach", "-i", "reader", stdin="one\ntwo\n")
    assert lab.kubectl("-n", NS, "logs", "reader") == "reads\ngot one\ngot two\nend\n"
    for name, expected in (("shell", 4), ("reader", 3)):
        ended = lab.eventually(lambda name=name: state(lab, name)["state"].get("terminated"), f"{name} ends")
        assert ended["exitCode"] == expected


def test_limits_hold_and_who_breaks_them_is_killed(lab: Cluster, tars: Path) -> None:
    image(lab, "load", tars / "web.tar")
    grow = "x=0123456789abcdef; while :; do x=$x$x; done"
    limits = {"limits": {"memory": "16Mi", "cpu": "200m"}}
    lab.apply(
        pod("greedy", IMAGE, container={"command": ["sh", "-c", grow], "resources": limits}, restartPolicy="Never"),
        pod("bounded", IMAGE, container={"resources": limits}, nodeName="node1"),
    )
    ended = lab.eventually(lambda: state(lab, "greedy")["state"].get("terminated"), "greedy is killed")
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    lab.kubectl("-n", NS, "wait", "pod/bounded", "--for=condition=Ready", "--timeout=20s")
    script = "cat /sys/fs/cgroup/memory*/memory.limit_in_bytes /sys/fs/cgroup/cpu*/cpu.cfs_quota_us 2> /dev/null"
    version2 = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2> /dev/null"
    said = lab.exec(NS, "bounded", "sh", "-c", f"{version2} || {script} || true").split()
    assert said[:2] == [str(16 << 20), "20000"]


@contextmanager
def following(cluster: Cluster, *words: str) -> Iterator[subprocess.Popen[str]]:
    """kubectl logs -f; `communicate` gives all that it said once the container has ended."""
    argv = [str(BIN / "kubectl"), "-n", NS, "logs", "-f", *words]
    with subprocess.Popen(argv, env=cluster.environment, stdout=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def test_an_image_says_how_its_containers_run_and_end(lab: Cluster, tars: Path) -> None:
    """ENTRYPOINT, CMD, WORKDIR, USER, ENV, STOPSIGNAL; preStop before SIGTERM, SIGKILL when the grace is over."""
    image(lab, "load", tars / "web.tar")
    traps = f"trap 'echo term; exit' TERM; echo ready; {FOREVER}"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /proc/1/fd/1"]}}}
    polite = {"name": "polite", "image": IMAGE, "command": ["sh", "-c", traps], "lifecycle": hook}
    deaf = {"name": "deaf", "image": IMAGE, "command": ["sh", "-c", f"trap '' TERM; {FOREVER}"]}
    own = {"args": ["mine"], "workingDir": "/", "env": [{"name": "GREETING", "value": "x"}]}
    lab.apply(
        pod("says", RICH, terminationGracePeriodSeconds=30),
        pod("args", RICH, container=own),
        pod("ending", IMAGE, containers=[polite, deaf], terminationGracePeriodSeconds=2),
    )
    for name, words in (("says", "from the image in /srv as 1000, hello\n"), ("args", "mine in / as 1000, x\n")):
        assert words == lab.eventually(lambda name=name: lab.kubectl("-n", NS, "logs", name), f"{name} speaks")
    lab.kubectl("-n", NS, "wait", "pod/ending", "--for=condition=Ready", "--timeout=20s")
    with following(lab, "says") as says, following(lab, "ending", "-c", "polite") as ending:
        begun = time.monotonic()
        lab.kubectl("-n", NS, "delete", "pod", "says", "ending", "args")
        assert 2 <= time.monotonic() - begun < 20, "the deaf one has its grace, and no more"
        assert says.communicate(timeout=10)[0].endswith("asked to stop\n")
        assert ending.communicate(timeout=10)[0] == "ready\nhook\nterm\n"


def test_a_policy_holds_between_a_container_and_a_process(lab: Cluster, web: str) -> None:
    for name in ("friend", "stranger"):
        lab.apply({**client(name, "node2"), "metadata": {"name": name, "namespace": NS, "labels": {"role": name}}})
    lab.apply(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "friends", "namespace": NS},
         "spec": {"endpointSelector": {"matchLabels": {"app": web}},
                  "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]}}
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/friend", "pod/stranger", "--for=condition=Ready", "--timeout=20s")
    for target in addresses(lab.get("-n", NS, "pod", web)).values():
        for name, words in (("friend", "from an image"), ("stranger", "exit code 28")):  # of curl: nobody answered
            lab.eventually(
                lambda target=target, name=name, words=words: words in lab.exec(NS, name, *curl(target), check=False),
                f"{name} to {target}: {words}",
            )
    flows = lab.hubble("node1", "--to-pod", f"{NS}/{web}", "--verdict", "DROPPED", "--last", "20")
    assert flows, "the drops are seen where the container is"
    assert {flow["source"]["pod_name"] for flow in flows} == {"stranger"}
    lab.kubectl("-n", NS, "delete", "cnp", "friends")


def ready(cluster: Cluster, node: str) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = cluster.get("node", node)["status"]["conditions"]
    return next(entry for entry in conditions if entry["type"] == "Ready")


def test_containers_outlive_kubelet_and_containerd(lab: Cluster, web: str) -> None:
    before = state(lab, web)
    made = Lab(lab.name)
    made.stop("containerd-node1", kill=True)
    down = lab.eventually(lambda: (entry := ready(lab, "node1"))["status"] == "False" and entry, "node1 is not ready")
    assert (down["reason"], down["message"]) == ("KubeletNotReady", "container runtime is down")
    made.stop("kubelet-node1", kill=True)
    made.start_kubelet("node1")  # and containerd, which it needs
    lab.eventually(lambda: ready(lab, "node1")["status"] == "True", "node1 is ready")
    lab.eventually(lambda: lab.exec(NS, web, "echo", "here") == "here\n", "exec works again")
    assert state(lab, web) == before
    init = next(pid for pid in cgroups.members(group_of(lab, web)) if pid)
    made.stop("kubelet-node1", kill=True)
    os.kill(init, signal.SIGKILL)
    made.start_kubelet("node1")
    last = lab.eventually(lambda: state(lab, web)["lastState"].get("terminated"), "an end that no kubelet saw")
    assert last["exitCode"] == 137
    lab.eventually(lambda: lab.exec(NS, web, "echo", "again") == "again\n", "it was started again")


def test_a_node_loses_its_power_and_boots(lab: Cluster) -> None:
    """Its image came before it joined; its pods get new sandboxes; a pod that has ended has none, but its address."""
    lab.apply(
        pod("stays", RICH, nodeName="node2", tolerations=[{"operator": "Exists"}]),
        pod("done", RICH, nodeName="node2", container={"command": ["true"]}, restartPolicy="Never",
            tolerations=[{"operator": "Exists"}]),
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/stays", "--for=condition=Ready", "--timeout=20s")
    lab.kubectl("-n", NS, "wait", "pod/done", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    before, address = state(lab, "stays")["containerID"], lab.get("-n", NS, "pod", "done")["status"]["podIP"]
    for step in ("stop", "start"):
        lab.run(BIN / "cilium", "lab", "node", step, "node2", "--name", lab.name)
    lab.eventually(lambda: state(lab, "stays")["containerID"] != before, "a new container")
    lab.eventually(lambda: lab.exec(NS, "stays", "echo", "here") == "here\n", "it works")
    assert lab.get("-n", NS, "pod", "done")["status"]["podIP"] == address
    sandboxes = lab.node("node2", "ctr", "-n", "k8s.io", "containers", "list")
    assert sandboxes.count("pause") == 1 + sum(
        "containerd://" in json.dumps(item["status"]) and item["status"]["phase"] == "Running"
        for item in lab.get("pods", "-A", "--field-selector", "spec.nodeName=node2")["items"]
        if item["metadata"]["name"] != "stays"
    )


def test_a_container_that_ends_is_started_again_with_its_exit_code_known(lab: Cluster, web: str) -> None:
    """The image is of `docker save`, compressed; its user and command are taken."""
    lab.apply(pod("ends", "saved:1", restartPolicy="OnFailure"))
    last = lab.eventually(lambda: state(lab, "ends")["lastState"]["terminated"], "the first end")
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    lab.eventually(lambda: state(lab, "ends")["restartCount"] >= 2, "a second try")
    assert lab.kubectl("-n", NS, "logs", "ends", "--previous") == "1000\n"
    lab.apply(pod("bad", "saved:1", container={"command": ["/no/such/program"]}, restartPolicy="Never"))
    ended = lab.eventually(lambda: state(lab, "bad")["state"]["terminated"], "a start that fails")
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "/no/such/program" in ended["message"]
    for field, setting, reason, words in (
        ("runAsNonRoot", True, "CreateContainerConfigError", "image will run as root"),
        ("seccompProfile", {"type": "Localhost", "localhostProfile": "a.json"}, "CreateContainerError", "a.json"),
        ("appArmorProfile", {"type": "Localhost", "localhostProfile": "a"}, "CreateContainerError", "not supported"),
    ):
        lab.apply(pod(field.lower(), IMAGE, securityContext={field: setting}))
        assert words in waiting(lab, field.lower(), reason)
    assert {entry["metadata"]["name"] for entry in lab.get("runtimeclasses")["items"]} == {"process", "runc"}
    lab.apply(pod("classed", "debian:12", runtimeClassName="process", container={"command": ["sleep", "60"]}))
    lab.apply(pod("standin", "nginx"))
    for name in ("classed", "standin"):
        lab.eventually(lambda name=name: state(lab, name)["containerID"].startswith("kubelab://"), f"{name}, a process")
    lab.apply(
        pod("never", "absent:1", container={"imagePullPolicy": "Never"}),
        pod("secret", "absent:1", imagePullSecrets=[{"name": "mine"}]),
    )
    assert "cilium lab image load" in waiting(lab, "never", "ErrImageNeverPull")
    assert "the pull secrets mine are not used" in waiting(lab, "secret", "ImagePullBackOff")


def test_security_volumes_and_environment_reach_the_container(lab: Cluster, web: str) -> None:
    """With init containers, a shared PID namespace, subPaths, memory, groups of volumes."""
    lab.kubectl("-n", NS, "create", "configmap", "settings", "--from-literal=key=value")
    script = """id -u; id -G; cat /etc/settings/key; echo; echo "$NODE"; cat /mine/left
        { echo > /x; } 2> /dev/null || echo readonly; cat /proc/1/cmdline; echo
        ls -ldn /memory | tee /memory/file; cat /proc/mounts /proc/self/status; exec sleep 60"""
    inner = {"name": "work", "mountPath": "/mine", "subPath": "inner"}
    container = {
        "command": ["sh", "-c", script],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings/key", "subPath": "key"}, inner,
                         {"name": "memory", "mountPath": "/memory"}],
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    first = {"name": "first", "image": IMAGE, "command": ["sh", "-c", "echo left > /mine/left"],
             "volumeMounts": [inner]}  # fmt: skip
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}, {"name": "work", "emptyDir": {}},
               {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}]  # fmt: skip
    who = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 4000, "supplementalGroups": [5000]}
    lab.apply(pod("secure", IMAGE, container=container, volumes=volumes, nodeName="node2", securityContext=who,
                  initContainers=[first], shareProcessNamespace=True))  # fmt: skip
    said = lab.eventually(
        lambda: "Seccomp_f" in (text := lab.kubectl("-n", NS, "logs", "secure", "-c", "main")) and text, "its words"
    )
    lines = said.splitlines()
    assert lines[:6] == ["1000", "3000 4000 5000", "value", "node2", "left", "readonly"]
    assert lines[6].startswith("/pause")
    assert lines[7].split()[:4] == ["drwxrwsrwx", "2", "0", "4000"]
    assert any(line.startswith("tmpfs /memory ") and "size=4096k" in line for line in lines)
    assert {"NoNewPrivs:\t1", "CapBnd:\t0000000000000000", "Seccomp:\t2"} <= set(lines)


def test_ports_and_network_of_the_node(lab: Cluster, web: str) -> None:
    port = {"ports": [{"containerPort": 8080, "hostPort": 8099}]}
    lab.apply(pod("exposed", IMAGE, container=port, nodeName="node2"),
              pod("host", IMAGE, hostNetwork=True, nodeName="node2"))  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/exposed", "pod/host", "--for=condition=Ready", "--timeout=20s")
    places = [entry["address"] for entry in lab.get("node", "node2")["status"]["addresses"]
              if entry["type"] == "InternalIP"]  # fmt: skip
    assert [entry["ip"] for entry in lab.get("-n", NS, "pod", "host")["status"]["podIPs"]] == places
    for place in places:
        for number in (8099, 8080):
            lab.eventually(
                lambda place=place, number=number: (
                    lab.exec(NS, web, *curl(place, number), check=False) == "from an image\n"
                ),
                f"{place}, port {number}",
            )


def test_images_by_digest_and_their_end(lab: Cluster, tars: Path) -> None:
    """A digest names exactly one image; a newer one takes the name, and the older one goes; rm takes both."""
    image(lab, "load", tars / "one.tar", "--tag", "registry.test/apart:1")
    digest = _digest(lab, "registry.test/apart:1")
    lab.apply(pod("exact", f"registry.test/apart@{digest}", nodeName="node1"))
    lab.kubectl("-n", NS, "wait", "pod/exact", "--for=condition=Ready", "--timeout=20s")
    assert state(lab, "exact")["imageID"] == f"registry.test/apart@{digest}"
    image(lab, "load", tars / "user.tar", "--tag", "registry.test/apart:1")
    assert _digest(lab, "registry.test/apart:1") != digest
    assert digest not in lab.node("node1", "ctr", "-n", "k8s.io", "images", "ls", "-q")
    assert lab.exec(NS, "exact", "echo", "goes on") == "goes on\n"
    lab.kubectl("-n", NS, "delete", "pod", "exact", "--grace-period=1")
    assert image(lab, "rm", "registry.test/apart:1") == "removed registry.test/apart:1\n"
    assert "apart" not in image(lab, "list")
    assert "apart" not in lab.node("node2", "ctr", "-n", "k8s.io", "images", "ls", "-q")
    assert "no node has the image" in image(lab, "rm", "registry.test/apart:1", check=False)


def _digest(cluster: Cluster, name: str) -> str:
    lines = cluster.node("node1", "ctr", "-n", "k8s.io", "images", "ls", f"name=={name}").splitlines()
    return lines[1].split()[2]


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
        group = cgroups.node_path(lab.name, node)
        kept = {item["metadata"]["uid"] for item in lab.get("pods", "-A")["items"]}
        for root in (group, *(each.group(lab.name, node) for each in controllers.hierarchies())):
            lab.eventually(lambda root=root, kept=kept: {path.name[3:] for path in root.glob("kubepods/pod*")} <= kept,
                           f"no cgroups of containers in {root}")  # fmt: skip
        programs = [Path(f"/proc/{pid}/comm").read_text() for pid in cgroups.members(group / containerd.GROUP)]
        assert programs == ["containerd\n"]
    assert "down" in lab.down()
    assert not cgroups.lab_path(lab.name).exists()
    assert not any(each.group(lab.name).exists() for each in controllers.hierarchies())
    mounts = Path("/proc/self/mounts").read_text()
    assert lab.name not in mounts

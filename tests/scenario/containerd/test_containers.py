"""Containers of images through the real kubectl: streams, limits, ends, security, volumes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

import pytest
from scenario.cluster import BIN, Cluster, CommandError
from scenario.containerd.world import FOREVER, IMAGE, NS, RICH, following, pod, state, waiting
from scenario.terminal import Step, on_terminal

pytestmark = pytest.mark.scenario


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


def sized(rows: int, columns: int) -> str:
    """What is typed to wait for this size; it is seen when typed, too, so not spelled like what is waited for."""
    return f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do sleep 0.1; done; echo ha''s {rows}\n"


def test_terminals(lab: Cluster, web: str) -> None:
    """exec and attach: size, its change, exit codes, Ctrl-C; input and its end."""

    def kubectl(*words: str, script: Sequence[Step]) -> tuple[str, int]:
        return on_terminal([str(BIN / "kubectl"), "-n", NS, *words], lab.environment, script)

    resized: list[Step] = [("# ", sized(31, 97)), ("has 31", (50, 120)), ("# ", sized(50, 120)), ("has 50", "exit 5\n")]
    screen, code = kubectl("exec", "-it", web, "--", "sh", script=resized)
    assert (code, "exit code 5" in screen) == (5, True)
    waits = ("exec", "-it", web, "--", "sh", "-c", "echo go; exec sleep 60")
    assert kubectl(*waits, script=[("go", "\x03")])[1] == 130

    reads = "echo reads; while read line; do echo got $line; done; echo end; exit 3"
    lab.apply(
        pod("shell", IMAGE, container={"command": ["sh"], "stdin": True, "tty": True}, restartPolicy="Never"),
        pod("reader", IMAGE, container={"command": ["sh", "-c", reads], "stdin": True, "stdinOnce": True},
            restartPolicy="Never"),
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/shell", "pod/reader", "--for=condition=Ready", "--timeout=20s")
    attached = [("", "\n" + sized(31, 97)), *resized[1:]]
    kubectl("attach", "-it", "shell", script=attached)
    assert "got one\ngot two\nend" in lab.kubectl("-n", NS, "attach", "-i", "reader", stdin="one\ntwo\n")
    assert lab.kubectl("-n", NS, "logs", "reader") == "reads\ngot one\ngot two\nend\n"
    for name, expected in (("shell", 5), ("reader", 3)):
        ended = lab.eventually(lambda name=name: state(lab, name)["state"].get("terminated"), f"{name} ends")
        assert ended["exitCode"] == expected


def test_limits_hold_and_who_breaks_them_is_killed(lab: Cluster) -> None:
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


def test_an_image_says_how_its_containers_run_and_end(lab: Cluster) -> None:
    """ENTRYPOINT, CMD, WORKDIR, USER, ENV, STOPSIGNAL; preStop before SIGTERM, SIGKILL when the grace is over."""
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


def test_a_container_that_ends_is_started_again_with_its_exit_code_known(lab: Cluster) -> None:
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


def test_security_volumes_and_environment_reach_the_container(lab: Cluster) -> None:
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

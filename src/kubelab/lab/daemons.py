"""The lab's own daemons: control plane and the world's servers; started, stopped, recorded in the lab's state.

In: a lab whose state is written. Out: processes in the lab's cgroup, each with a log file of its own.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kubelab.lab import processes
from kubelab.lab.errors import LabError
from kubelab.lab.state import LabPaths
from kubelab.underlay import cgroups, network
from kubelab.underlay.addresses import Plan

API_PORT = 6443
CONTROL_PLANE, EXTERNAL = "control-plane", "external"


def server_url(plan: Plan) -> str:
    """Where the API server is."""
    host = plan.host[0]
    return f"https://[{host}]:{API_PORT}" if ":" in host else f"https://{host}:{API_PORT}"


@dataclass(frozen=True, slots=True)
class Daemons:
    """What one lab runs beside its nodes."""

    paths: LabPaths

    def configure_control_plane(self) -> None:
        """Writes what the control plane reads at each start."""
        state = self.paths.require()
        content = {
            "data_dir": str(self.paths.control_plane),
            "addresses": list(state.plan.host),
            "port": API_PORT,
            "options": state.options.as_json(),
        }
        self._control_plane_config.write_text(json.dumps(content))

    def start_control_plane(self) -> int:
        """The descriptor on which it says that it serves: for `await_control_plane`."""
        ready, write = os.pipe()
        argv = [sys.executable, "-m", "kubelab.lab.control_plane", str(self._control_plane_config), str(write)]
        self._start(CONTROL_PLANE, argv, pass_fds=(write,))
        os.close(write)
        return ready

    def await_control_plane(self, ready: int) -> None:
        """Raises LabError with the end of its log when it died instead."""
        processes.await_ready(ready, "the control plane", self.log(CONTROL_PLANE))

    def start_external(self) -> None:
        inside = f"--net={network.netns(self.paths.name, EXTERNAL)}"
        words = [f"--family={family}" for family in self.paths.require().options.families]
        words += [f"--certificate={self.world_certificate}"] if self.world_certificate.exists() else []
        self._start(EXTERNAL, ["nsenter", inside, sys.executable, "-m", "kubelab.external", *words])

    def stop(self, process: str, *, kill: bool = False) -> bool:
        """Ends a recorded process and waits for its end; False when it did not run. Raises LabError."""
        pids = self.paths.require().pids
        if process not in pids:
            raise LabError(f"process {process}: lab {self.paths.name} has {', '.join(pids)}")
        if not processes.alive(pids[process]):
            return False
        processes.stop(pids[process], kill=kill)
        return True

    def log(self, process: str) -> Path:
        return self.paths.logs / f"{process}.log"

    def record(self, name: str, record: tuple[int, int]) -> None:
        self.paths.change(lambda state: state.with_pid(name, record))

    @property
    def world_certificate(self) -> Path:
        """With its key; of the web servers outside."""
        return self.paths.control_plane / "pki" / "world.pem"

    @property
    def _control_plane_config(self) -> Path:
        return self.paths.control_plane / "config.json"

    def _start(self, name: str, argv: list[str], pass_fds: tuple[int, ...] = ()) -> None:
        cgroup = cgroups.lab_path(self.paths.name) / name
        self.record(name, processes.start(argv, self.log(name), cgroup=cgroup, pass_fds=pass_fds))

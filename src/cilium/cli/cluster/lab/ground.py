"""A lab as the ground of policy tests.

In: a lab that is up. Out: its objects, what its agents have, answers of probers in its namespaces, flows. What goes
wrong with the lab itself is a LabError.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import kubelab.prober
from cilium.connectivity.policy_tests.errors import RefusedError, WrongTestError
from cilium.connectivity.policy_tests.ground import Asker, Object, Place, Tables
from kubelab.images.programs import GENERIC_IMAGE
from kubelab.lab.errors import LabError
from kubelab.lab.lab import Lab
from kubelab.lab.world import serving

MANAGER = "cilium-lab-test"
BIN = Path(sys.executable).parent
PROBER = Path(kubelab.prober.__file__).with_name("probe.py")


class LabGround:
    """What `cilium.connectivity.policy_tests.ground.Ground` asks for."""

    image = GENERIC_IMAGE

    def __init__(self, lab: Lab) -> None:
        self._lab, self._api = lab, lab.api()
        status = lab.status()
        self.nodes = tuple(node.name for node in status.nodes if not node.stopped)
        self.networks = status.subnets

    def get(self, path: str) -> Object:
        return self._api.get(path)

    def find(self, manifest: Object) -> Object | None:
        return self._api.find(manifest)

    def apply(self, manifest: Object) -> Object:
        try:
            return self._api.apply_configuration(manifest, MANAGER)
        except LabError as error:
            raise RefusedError(str(getattr(error, "reason", error))) from error

    def delete(self, manifest: Object) -> None:
        self._api.delete(manifest)

    def wait(self, path: str, ready: Callable[[list[Object]], bool], seconds: float, what: str) -> None:
        self._api.wait(path, ready, seconds, what)

    def tables(self, node: str, names: Sequence[str]) -> Tables:
        program = [sys.executable, "-m", "cilium.cli.cluster.lab.agent_tables", *names]
        done = self._run(self._lab.node_argv(node, program))
        return {} if done.returncode else dict(json.loads(done.stdout))

    def ask(self, asker: Asker, order: Object) -> list[Object]:
        command = [sys.executable, "-S", "-E", "-I", str(PROBER)]
        if asker.uid:
            argv = self._lab.container_argv(asker.node, asker.uid, asker.container, command)
        else:
            argv = self._lab.node_argv(asker.node, command)
        done = self._run(argv, json.dumps(order))
        if done.returncode:
            raise WrongTestError(f"{asker.name} cannot ask: {done.stderr.strip()[-500:]}")
        return list(json.loads(done.stdout))

    def flows(self, node: str, since: str, fields: Collection[str]) -> list[Object]:
        masks = [word for field in fields for word in ("--field-mask", field)]
        command = [str(BIN / "hubble"), "observe", "--since", since, "--type", "policy-verdict", "--type", "drop",
                   "-o", "json", *masks]  # fmt: skip
        done = self._run(self._lab.node_argv(node, command))
        if done.returncode:
            raise WrongTestError(
                f"{node}: hubble observe: {done.stderr.strip()[-500:]}: is Hubble on in the lab's values?"
            )
        documents: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines() if line]
        return [document["flow"] for document in documents if "flow" in document]

    def serving(self, places: Collection[Place]) -> AbstractContextManager[None]:
        return serving(self._lab, places)

    @staticmethod
    def _run(argv: Sequence[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, input=given, capture_output=True, text=True, check=False)

"""Programs that ask, where they ask; and the agents of all nodes, asked whether they enforce what the API was told."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scenario.cluster import Cluster
from scenario.node import LabNode

PROBER = Path(__file__).with_name("prober.py")
COMMAND = [sys.executable, "-I", "-S", str(PROBER)]
MORE_TIME = 0.15
"""Seconds for answers that should not come, after all that should have come."""
SETTLED = 8.0
Manifest = dict[str, Any]
POLICY_KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy")


class Asker:
    """The prober, in one network namespace."""

    def __init__(self, argv: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, questions: Sequence[tuple[str, str, int]], wanted: int) -> None:
        """Kind, address and port of each; `answers` tells what came of them."""
        lines = [f"ask {index} {kind} {address} {port}\n" for index, (kind, address, port) in enumerate(questions)]
        self._in.write("".join(lines) + f"go {wanted} {MORE_TIME}\n")
        self._in.flush()

    def answers(self) -> list[str]:
        found = []
        while (line := self._out.readline()) != "end\n":
            assert line, "a prober died"
            found.append(line.split()[1])
        return found

    def get(self, path: str) -> Any:
        """From the agent of this node; None: it does not answer."""
        self._in.write(f"get {path}\n")
        self._in.flush()
        return json.loads(self._out.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Agents:
    """`askers`: a prober per node, by the node's name."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.askers: dict[str, Asker] = {}
        for node in cluster.get("nodes")["items"]:
            name = node["metadata"]["name"]
            self.askers[name] = Asker(LabNode(cluster, name).lab.node_argv(name, COMMAND))

    def close(self) -> None:
        for asker in self.askers.values():
            asker.close()

    def apply(self, *manifests: Manifest) -> None:
        """Returns when every node enforces them."""
        self.await_policies(self.tell(*manifests))

    def remove(self, *manifests: Manifest) -> None:
        """Returns when no node enforces them."""
        self.await_gone(self.withdraw(*manifests))

    def tell(self, *manifests: Manifest) -> dict[str, int]:
        """To the API; returns the generations of policies to wait for."""
        if not manifests:
            return {}
        text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
        applied = json.loads(self.cluster.kubectl("apply", "-f", "-", "-o", "json", stdin=text))
        return {
            policy_key(item): item["metadata"]["generation"]
            for item in applied.get("items", [applied])
            if item["kind"] in POLICY_KINDS
        }

    def withdraw(self, *manifests: Manifest) -> set[str]:
        """From the API; returns the keys of policies to wait for."""
        if manifests:
            text = "\n---\n".join(json.dumps(manifest) for manifest in manifests)
            self.cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=text)
        return {policy_key(manifest) for manifest in manifests if manifest["kind"] in POLICY_KINDS}

    def await_policies(self, wanted: Mapping[str, int]) -> None:
        if wanted:
            self._await(lambda found: all(found.get(key) == number for key, number in wanted.items()), wanted)

    def await_gone(self, keys: set[str]) -> None:
        if keys:
            self._await(keys.isdisjoint, keys)

    def _await(self, condition: Callable[[dict[str, int]], bool], what: object) -> None:
        def there() -> bool:
            statuses = [node.get("/v1/statedb/policy-status") for node in self.askers.values()]
            return all(rows is not None and condition(_generations(rows)) for rows in statuses)

        self._wait(there, what)

    def await_labels(self, labels: Mapping[str, str]) -> None:
        """Returns when every node knows each address by an identity with its label (`k8s:app=web`), its kernel too."""

        def there() -> bool:
            for asker in self.askers.values():
                rows = {row["cidr"].partition("/")[0]: row["identity"] for row in asker.get("/v1/ip") or ()}
                known = {row["id"]: row["labels"] for row in asker.get("/v1/identity") or ()}
                if not all(label in known.get(rows.get(address), ()) for address, label in labels.items()):
                    return False
            return all(map(_written, self.askers.values()))

        self._wait(there, labels)

    @staticmethod
    def _wait(there: Callable[[], bool], what: object) -> None:
        deadline = time.monotonic() + SETTLED
        while not there():
            assert time.monotonic() < deadline, f"not on every node: {what}"
            time.sleep(0.01)


def _written(asker: Asker) -> bool:
    """Whether what the agent says of addresses and endpoints is in its kernel's maps."""
    statuses = [asker.get(f"/v1/statedb/{table}-status") for table in ("ipcache", "endpoint-map")]
    return all(rows is not None and all(row["kind"] == "Done" for row in rows) for rows in statuses)


def policy_key(manifest: Manifest) -> str:
    meta = manifest["metadata"]
    return f"{manifest['kind']}/{meta.get('namespace', '')}/{meta['name']}"


def _generations(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return {f"{row['kind']}/{row['namespace']}/{row['name']}": row["generation"] for row in rows}

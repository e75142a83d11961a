"""The tests, as data: `table.yaml` says which policies, scenarios and expectations make a test.

In: `table.yaml`, `policies/`. Out: `Test`s in their order; manifests of a test's policies for a namespace.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import msgspec
import yaml

from cilium.connectivity.suite.options import External

Object = dict[str, Any]
Drop = Literal["", "egress", "ingress", "either"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """A scenario of a test. `source` and `target`: labels of those who take part.

    `retry`: which requests to the outside are asked again: `all`, those to one of its addresses, or to a port.
    """

    scenario: str
    source: dict[str, str] = {}
    target: dict[str, str] = {}
    retry: Literal["", "all", "ip", "port-80"] = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from", "target": "to"}):
    """What is expected of the actions that fit; the first rule that fits decides, without one they are allowed.

    `drop`: where. `by`: a deny rule, or the lack of a rule (default). `code`: of the command, if it matters.
    """

    source: dict[str, str] = {}
    target: dict[str, str] = {}
    port: int = 0
    outside: Literal["", "ip", "other"] = ""
    drop: Drop = ""
    by: Literal["", "deny", "default"] = ""
    code: int = 0


class Test(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`requires`: features of the cluster. `absent`: why this command does not have the test at all."""

    __test__ = False  # for pytest: no test case

    name: str
    policies: list[str] = []
    scenarios: list[Part] = []
    expect: list[Rule] = []
    requires: list[str] = []
    unsafe: bool = False
    absent: str = ""


@cache
def load() -> tuple[Test, ...]:
    """All tests, in the order in which they are run."""
    rows: list[Object] = yaml.safe_load(_read("table.yaml"))
    for row in rows:  # in the file, a name stands for a part without more
        parts = row.get("scenarios", [])
        row["scenarios"] = [{"scenario": part} if isinstance(part, str) else part for part in parts]
    return tuple(msgspec.convert(rows, list[Test]))


def manifests(test: Test, namespace: str, outside: Mapping[int, External], nodes: Mapping[int, str]) -> list[Object]:
    """A test's policies for pods of a namespace. `nodes`: networks in which all nodes are, by family."""
    some = next(iter(nodes.values()), "")
    values = {"namespace": namespace, "nodes_v4": nodes.get(4, some), "nodes_v6": nodes.get(6, some)}
    for family, place in outside.items():
        values |= {f"{name}_v{family}": getattr(place, name) for name in ("ip", "other_ip", "cidr")}
    return [_filled(found, values) for name in test.policies for found in policies()[name]]


@cache
def policies() -> dict[str, list[Object]]:
    """Documents of the files in `policies/` by the name of the policy; what it refers to stands before it."""
    found: dict[str, list[Object]] = {}
    before: list[Object] = []
    for file in sorted((_here() / "policies").iterdir(), key=lambda file: file.name):
        for document in yaml.safe_load_all(file.read_text()):
            if document["kind"] == "CiliumCIDRGroup":
                before.append(document)
                continue
            found[document["metadata"]["name"]] = [*before, document]
            before = []
    return found


def _filled(document: Object, values: Mapping[str, str]) -> Object:
    """With its ${places} filled; a namespaced policy gets the namespace."""
    text = json.dumps(document)
    made: Object = json.loads(string.Template(text).substitute(values))
    if not made["kind"].startswith(("CiliumClusterwide", "CiliumCIDRGroup")):
        made["metadata"]["namespace"] = values["namespace"]
    return made


def _here() -> Any:
    return files("cilium.connectivity.suite")


def _read(name: str) -> str:
    text: str = (_here() / name).read_text()
    return text

"""An agent that finds an object invalid enforces what it said when it was valid, or closes whom it selects."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cilium.settings import PolicySettings
from cilium.sources.kubernetes.policies import LastValid, decode_ccnp, decode_cnp
from cilium.sources.kubernetes.policies.last_valid import Decode
from cilium.state import Table
from cilium.tables.rules import PolicyObject

GOOD = {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"fromEntities": ["world"]}]}
BAD = {**GOOD, "ingress": [{"fromEntities": ["nobody"]}]}


def raw(spec: Any, generation: int = 1, uid: str = "u", **more: Any) -> bytes:
    metadata = {"name": "p", "namespace": "shop", "uid": uid, "generation": generation, **more}
    return json.dumps({"metadata": metadata, "spec": spec, "status": {"x": generation}}).encode()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "policies"


def life(directory: Path) -> Decode:
    return LastValid(directory).remembering(decode_cnp)


def test_the_last_valid_generation_outlives_the_agent(directory: Path) -> None:
    good = life(directory)(raw(GOOD, 3))
    assert good.enforced == 3
    found = life(directory)(raw(BAD, 4))
    assert (found.rules, found.enforced, found.generation) == (good.rules, 3, 4)
    assert "fromEntities" in found.error


def test_another_object_of_the_same_name_inherits_nothing(directory: Path) -> None:
    life(directory)(raw(GOOD, 3))
    assert life(directory)(raw(BAD, 1, uid="v")).rules == ()


def test_a_status_alone_writes_nothing(directory: Path) -> None:
    decode = life(directory)
    decode(raw(GOOD, 3))
    (path,) = directory.iterdir()
    before = path.stat().st_ino
    decode(raw(GOOD, 3, resourceVersion="2", managedFields=[{"manager": "x"}]))
    life(directory)(raw(GOOD, 3, resourceVersion="3"))
    assert path.stat().st_ino == before
    decode(raw(GOOD, 4))
    assert path.stat().st_ino != before


@pytest.mark.parametrize("spoiled", [b"", b"{", b'{"metadata": {"name": "p"}}'])
def test_without_a_last_valid_one_whom_it_selects_is_closed(directory: Path, spoiled: bytes) -> None:
    life(directory)(raw(GOOD, 3))
    (path,) = directory.iterdir()
    path.write_bytes(spoiled)
    found = life(directory)(raw(BAD, 4))
    (rule,) = found.rules
    assert found.enforced == 0
    assert (rule.default_deny_ingress, rule.default_deny_egress, rule.ingress, rule.egress) == (True, True, (), ())
    assert rule.subject == decode_cnp(raw(GOOD)).rules[0].subject


def test_a_selector_that_cannot_be_read_means_all_that_it_could_select() -> None:
    unreadable = {"endpointSelector": {"matchLabels": {"app": 5}}, "ingress": [{}]}
    (rule,) = LastValid(None).remembering(decode_cnp)(raw(unreadable, 2)).rules
    assert [term.values for term in rule.subject.requirements] == [("shop",)]
    about_nodes = {"nodeSelector": {}, "ingress": [{"fromEntities": ["nobody"]}]}
    body = raw(about_nodes, 2, namespace="")
    assert LastValid(None).remembering(decode_ccnp)(body).rules == ()


def test_what_was_never_valid_closes_nothing(directory: Path) -> None:
    assert life(directory)(raw(BAD, 1)).rules == ()


def test_what_another_agent_took_for_valid_stays_closed(directory: Path) -> None:
    """A setting was switched off, or this version reads more strictly: generation 1 was enforced all the same."""
    tunnels = {**GOOD, "ingress": [{"toPorts": [{"ports": [{"protocol": "GRE"}]}]}]}
    lenient = partial(decode_cnp, settings=PolicySettings(extended_protocols=True))
    assert not LastValid(directory).remembering(lenient)(raw(tunnels)).error
    found = life(directory)(raw(tunnels))
    assert "enable-extended-ip-protocols" in found.error
    (rule,) = found.rules
    assert (rule.default_deny_ingress, rule.ingress, found.enforced) == (True, (), 0)
    assert life(directory)(raw(tunnels, uid="v")).rules == ()


async def test_files_go_with_their_objects(directory: Path) -> None:
    memory = LastValid(directory)
    decode = memory.remembering(decode_cnp)
    table: Table[str, PolicyObject] = Table("policies", key=lambda row: row.key)
    writer = table.writer("test")
    writer.upsert(decode(raw(GOOD)))
    decode(json.dumps({"metadata": {"name": "gone", "namespace": "shop"}, "spec": GOOD}).encode())
    (directory / "half.part").touch()
    (directory / "stuck.json").mkdir()
    assert len(list(directory.iterdir())) == 4  # noqa: ASYNC240
    task = asyncio.create_task(memory.follow(table))
    writer.ready()
    async with asyncio.timeout(5):
        while len(list(directory.iterdir())) != 2:  # noqa: ASYNC110, ASYNC240 - a directory has nobody to wake
            await asyncio.sleep(0.001)
        writer.delete("CiliumNetworkPolicy/shop/p")
        while len(list(directory.iterdir())) != 1:  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.001)
    task.cancel()

"""What is recorded of a lab is read again as it was written; what cannot be read says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from kubelab.lab import state
from kubelab.lab.errors import LabError
from kubelab.lab.options import LabOptions
from kubelab.lab.state import LabPaths, LabState, NodeRecord

OPTIONS = LabOptions(nodes=3, zones=2, images=Path("/gone/images.yaml"))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabPaths:
    monkeypatch.setattr(state, "ROOT", tmp_path)
    found = state.paths(f"unit-{tmp_path.name[-20:].replace('_', '-').lower()}")
    found.directory.mkdir()
    found.write(LabState(name=found.name, index=7, options=OPTIONS, pids={}))
    return found


def test_nodes_and_processes_are_recorded_one_by_one(paths: LabPaths) -> None:
    for number in (2, 1):
        record = NodeRecord.of(number, OPTIONS)
        paths.change(partial(LabState.with_node, record=record))
    paths.change(lambda now: now.with_pid("control-plane", (12, 34)))
    found = paths.require()
    assert [(node.name, node.zone, node.stopped) for node in found.nodes] == [
        ("node1", "zone1", False),
        ("node2", "zone2", False),
    ]
    assert (found.options, found.pids, found.complete) == (OPTIONS, {"control-plane": (12, 34)}, False)


def test_an_unknown_node_is_named_with_those_that_there_are(paths: LabPaths) -> None:
    paths.change(lambda now: now.with_node(NodeRecord.of(1, OPTIONS)))
    with pytest.raises(LabError, match=r"node node9: lab .* has node1"):
        paths.require().node("node9")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x", "nodes": 3}'])
def test_damage_is_told(paths: LabPaths, text: str) -> None:
    paths.state.write_text(text)
    with pytest.raises(LabError, match="is damaged"):
        paths.read()


def test_no_two_changes_at_once(paths: LabPaths) -> None:
    with (
        state.lock(paths.name),
        pytest.raises(LabError, match="another command is changing it"),
        state.lock(paths.name),
    ):
        pass

"""Tables against a dict: any sequence of transactions, snapshots and reads."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from cilium.state import Snapshot, Table
from cilium.state import cowmap as cowmap_module
from cilium.state.cowmap import CowMap

Row = tuple[int, int, tuple[int, ...]]

keys = st.integers(0, 40)
rows = st.tuples(keys, st.integers(0, 3), st.lists(st.integers(0, 2), max_size=3).map(tuple))
commits = st.tuples(st.lists(rows, max_size=20), st.lists(keys, max_size=20))


def check(snapshot: Snapshot[int, Row], model: dict[int, Row]) -> None:
    assert dict(snapshot.items()) == model
    assert len(snapshot) == len(model)
    assert sorted(snapshot) == sorted(model.values())
    for value in range(4):
        assert sorted(snapshot.by("value", value)) == sorted(r for r in model.values() if r[1] == value)
        assert sorted(snapshot.by("tag", value)) == sorted(r for r in model.values() if value in r[2])
    assert sorted(snapshot.values("value")) == sorted({r[1] for r in model.values()})


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(commits, st.booleans(), st.booleans()), max_size=25))
def test_a_table_is_a_dict_with_history(steps: Iterable[tuple[tuple[list[Row], list[int]], bool, bool]]) -> None:
    table: Table[int, Row] = Table("t", key=lambda r: r[0], indexes={"value": lambda r: (r[1],), "tag": lambda r: r[2]})
    writer = table.writer("test")
    stream = table.changes()
    model: dict[int, Row] = {}
    read: dict[int, Row] = {}
    history: list[tuple[Snapshot[int, Row], dict[int, Row]]] = []
    for (upserts, deletes), take, pop in steps:
        before, revision = dict(model), table.revision
        for key in deletes:
            model.pop(key, None)
        model.update({row[0]: row for row in upserts})
        changed = {k for k in before.keys() | model.keys() if before.get(k) != model.get(k)}
        assert writer.commit(upserts, deletes) == len(changed)
        assert table.revision == revision + bool(changed)
        if take:
            history.append((table.snapshot(), dict(model)))
        if pop:
            for change in stream.pop():
                assert change.old == read.get(change.key)
                assert change.old != change.new
                if change.new is None:
                    del read[change.key]
                else:
                    read[change.key] = change.new
            assert read == model
    check(table.snapshot(), model)
    for snapshot, expected in history:
        check(snapshot, expected)
    assert {c.key: c.new for c in table.changes().pop()} == model


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans(), st.booleans()), max_size=300))
def test_the_map_grows_and_forks_without_losing_anything(steps: list[tuple[int, bool, bool]]) -> None:
    live: CowMap[int, int] = CowMap()
    model: dict[int, int] = {}
    for i in range(cowmap_module.BUCKET_ROWS - 5):  # stands just below the first growth
        live.set(-1 - i, i)
        model[-1 - i] = i
    old: list[tuple[CowMap[int, int], dict[int, int]]] = []
    for key, present, fork in steps:
        if fork:
            old.append((live, dict(model)))
            live = live.fork()
        if present:
            live.set(key, key)
            model[key] = key
        else:
            live.discard(key)
            model.pop(key, None)
    for found, expected in [*old, (live, model)]:
        assert dict(found.items()) == expected
        assert len(found) == len(expected)
        assert set(found) == set(expected)
        assert sorted(found.values()) == sorted(expected.values())

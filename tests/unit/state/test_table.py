"""Tables: transactions, indexes, snapshots, initialisation, the one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import msgspec
import pytest

from cilium.state import StateError, Table, TableError, WriterError, dump


class Row(msgspec.Struct, frozen=True):
    name: str
    node: str = "n1"
    tags: tuple[str, ...] = ()


def make() -> Table[str, Row]:
    return Table("rows", key=lambda r: r.name, indexes={"node": lambda r: (r.node,), "tag": lambda r: r.tags})


def test_an_equal_row_is_no_change() -> None:
    table = make()
    writer = table.writer("test")
    assert writer.upsert(Row("a"))
    assert table.revision == 1
    assert not writer.upsert(Row("a"))
    assert table.revision == 1
    assert writer.upsert(Row("a", node="n2"))
    assert writer.delete("a")
    assert not writer.delete("a")
    assert table.revision == 3
    assert len(table) == 0


def test_a_commit_is_one_transaction_and_one_revision() -> None:
    table = make()
    writer = table.writer("test")
    stream = table.changes()
    assert writer.commit([Row("a"), Row("b"), Row("a", "n2")], ["c"]) == 2
    assert table.revision == 1
    assert {c.key: (c.old, c.new, c.revision) for c in stream.pop()} == {
        "a": (None, Row("a", "n2"), 1),
        "b": (None, Row("b"), 1),
    }


def test_deletes_come_before_upserts_in_a_commit() -> None:
    table = make()
    writer = table.writer("test")
    writer.commit([Row("a"), Row("b")])
    stream = table.changes()
    stream.pop()
    assert writer.commit([Row("a"), Row("b", "n2")], ["a", "b"]) == 1, "a is as it was"
    assert [(c.key, c.old, c.new) for c in stream.pop()] == [("b", Row("b"), Row("b", "n2"))]


def test_a_failing_key_or_index_function_leaves_the_table_untouched() -> None:
    def tags(row: Row) -> tuple[Hashable, ...]:
        if row.name == "bad":
            raise ValueError(row.name)
        return row.tags

    table = Table("rows", key=lambda r: r.name, indexes={"tag": tags})
    writer = table.writer("test")
    stream = table.changes()
    with pytest.raises(ValueError, match="bad"):
        writer.commit([Row("good", tags=("t",)), Row("bad")])
    assert (len(table), table.revision, stream.pop()) == (0, 0, [])
    assert table.snapshot().by("tag", "t") == []


def test_a_snapshot_does_not_follow_the_table() -> None:
    table = make()
    writer = table.writer("test")
    writer.commit([Row("a", tags=("x", "y")), Row("b", "n2")])
    before = table.snapshot()
    assert table.snapshot() is before, "no change, no new snapshot"
    writer.commit([Row("a", "n2"), Row("c")], ["b"])
    assert sorted(r.name for r in before) == ["a", "b"]
    assert before.by("node", "n2") == [Row("b", "n2")]
    assert before.by("tag", "y") == [Row("a", tags=("x", "y"))]
    after = table.snapshot()
    assert (before.revision, after.revision) == (1, 2)
    assert after.by("node", "n2") == [Row("a", "n2")]
    assert after.by("tag", "y") == []
    assert "b" in before
    assert "b" not in after
    assert after.get("b") is None
    assert sorted(after.values("node")) == ["n1", "n2"]


def test_a_crowd_in_an_index_survives_snapshots_and_shrinks() -> None:
    table = make()
    writer = table.writer("test")
    writer.commit(Row(f"r{i}") for i in range(1000))
    full = table.snapshot()
    writer.commit((), [f"r{i}" for i in range(999)])
    assert len(full.by("node", "n1")) == 1000
    assert table.snapshot().by("node", "n1") == [Row("r999")]
    writer.delete("r999")
    assert list(table.snapshot().values("node")) == []


def test_asking_wrongly_says_what_would_be_right() -> None:
    table = make()
    with pytest.raises(TableError, match=r"no index 'nod'.*node, tag"):
        table.snapshot().by("nod", "n1")
    with pytest.raises(TableError, match="'rows' has no row 'a' at revision 0"):
        _ = table.snapshot()["a"]
    assert issubclass(TableError, StateError)


def test_a_second_writer_is_refused_by_name() -> None:
    table = make()
    table.writer("kubernetes")
    with pytest.raises(WriterError, match="written by 'kubernetes'; 'cni' cannot"):
        table.writer("cni")


async def test_initialised_when_every_initializer_is_done() -> None:
    table = make()
    writer = table.writer("test")
    first, second = writer.initializer("pods"), writer.initializer("nodes")
    waiter = asyncio.create_task(table.wait_initialized())
    first()
    first()
    assert not table.initialized
    assert writer.outstanding() == ("nodes",)
    with pytest.raises(WriterError, match="outstanding: nodes"):
        writer.ready()
    second()
    assert table.initialized
    await waiter
    with pytest.raises(WriterError, match="too late"):
        writer.initializer("late")


def test_a_table_without_initializers_is_initialised_by_ready() -> None:
    table = make()
    writer = table.writer("test")
    writer.commit([Row("a")])
    assert not table.initialized
    writer.ready()
    writer.ready()
    assert table.initialized


async def test_a_reader_gets_what_is_there_and_then_what_happens() -> None:
    table = make()
    writer = table.writer("test")
    writer.upsert(Row("a"))
    stream = table.changes()
    await stream.wait()
    assert [(c.key, c.old, c.new) for c in stream.pop()] == [("a", None, Row("a"))]
    waiting = asyncio.create_task(stream.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    writer.delete("a")
    await waiting
    assert [(c.key, c.old, c.new) for c in stream.pop()] == [("a", Row("a"), None)]
    assert stream.pop() == []


def test_changes_are_coalesced_per_key() -> None:
    table = make()
    writer = table.writer("test")
    writer.upsert(Row("a"))
    stream = table.changes()
    stream.pop()
    writer.upsert(Row("a", "n2"))
    writer.upsert(Row("a", "n3"))
    writer.upsert(Row("fleeting"))
    writer.delete("fleeting")
    writer.upsert(Row("b"))
    assert {c.key: (c.old, c.new, c.revision) for c in stream.pop()} == {
        "a": (Row("a"), Row("a", "n3"), 3),
        "b": (None, Row("b"), 6),
    }
    writer.upsert(Row("b", "n9"))
    assert stream.is_pending("b")
    writer.upsert(Row("b"))
    assert stream.pop() == [], "there and back again"
    assert stream.revision == table.revision


def test_a_forgotten_reader_costs_nothing() -> None:
    table = make()
    writer = table.writer("test")
    stream = table.changes()
    assert len(table._streams) == 1
    del stream
    assert len(table._streams) == 0
    writer.upsert(Row("a"))


def test_dump_is_plain_and_sorted() -> None:
    table: Table[Hashable, tuple[Hashable, complex]] = Table("mixed", key=lambda r: r[0])
    table.writer("test").commit([("b", 1j), (1, 2j), ("a", 0j)])
    assert dump(table, enc_hook=str) == [
        {"value": (1, "2j")},
        {"value": ("a", "0j")},
        {"value": ("b", "1j")},
    ]
    rows = make()
    rows.writer("test").commit([Row("b"), Row("a", tags=("t",))])
    assert dump(rows.snapshot()) == [
        {"name": "a", "node": "n1", "tags": ("t",)},
        {"name": "b", "node": "n1", "tags": ()},
    ]

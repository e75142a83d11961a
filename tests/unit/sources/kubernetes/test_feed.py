"""Feeds without a network: what a batch of events and a list do to a shared table."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from cilium.protocols.kubernetes import Event
from cilium.sources.kubernetes.errors import ObjectError
from cilium.sources.kubernetes.feed import Feed
from cilium.state import Table


class Row(msgspec.Struct, frozen=True):
    key: str
    value: int
    kept: tuple[int, ...] = ()


def decode(raw: bytes | msgspec.Raw) -> Row | None:
    body = msgspec.json.decode(raw)
    if body["value"] is None:
        return None
    if body["value"] < 0:
        raise ObjectError("value", "is negative")
    return Row(body.get("key") or body["metadata"]["name"], body["value"])


def remember(old: Row | None, new: Row) -> Row:
    return msgspec.structs.replace(new, kept=((*old.kept, old.value) if old else ()))


def raw(name: str, value: Any, **extra: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps({"metadata": {"name": name}, "value": value, **extra}).encode())


def event(name: str, value: Any, **extra: Any) -> Event:
    return Event(raw(name, value, **extra))


def make(**options: Any) -> tuple[Table[str, Row], Feed[str, Row]]:
    table: Table[str, Row] = Table("rows", key=lambda row: row.key)
    return table, Feed("rows", writer=table.writer("test"), decode=decode, **options)


def rows(table: Table[str, Row]) -> dict[str, int]:
    return {row.key: row.value for row in table.snapshot()}


def test_a_batch_is_one_commit_and_the_last_word_counts() -> None:
    table, feed = make()
    feed.events([event("a", 1), event("a", 2), event("b", 1), Event(raw("b", 1), deleted=True), event("c", 3)])
    feed.events([Event(raw("a", 2), deleted=True), event("a", 5)])
    assert rows(table) == {"a": 5, "c": 3}
    assert table.revision == 2


def test_an_object_that_stops_being_a_row_leaves() -> None:
    table, feed = make()
    feed.events([event("a", 1)])
    feed.events([event("a", None)])
    assert rows(table) == {}
    assert len(feed) == 0


def test_an_object_whose_key_changes_moves() -> None:
    table, feed = make()
    feed.events([event("a", 1, key="old")])
    feed.events([event("a", 1, key="new")])
    assert rows(table) == {"new": 1}


def test_two_feeds_share_a_table_and_delete_only_their_own() -> None:
    table: Table[str, Row] = Table("rows", key=lambda row: row.key)
    writer = table.writer("test")
    one, two = Feed("ones", writer=writer, decode=decode), Feed("twos", writer=writer, decode=decode)
    one.page([raw("a", 1), raw("b", 1)], first=True, last=True)
    two.page([raw("c", 2)], first=True, last=True)
    one.page([raw("b", 1)], first=True, last=True)
    assert rows(table) == {"b": 1, "c": 2}
    two.page([], first=True, last=True)
    assert rows(table) == {"b": 1}


def test_an_abandoned_list_leaves_no_trace() -> None:
    table, feed = make()
    feed.page([raw("a", 1)], first=True, last=False)
    assert rows(table) == {}
    feed.page([raw("b", 1)], first=True, last=False)
    feed.page([raw("c", 1)], first=False, last=True)
    assert rows(table) == {"b": 1, "c": 1}


def test_merging_sees_rows_of_the_same_batch() -> None:
    table, feed = make(merge=remember)
    feed.events([event("a", 1)])
    feed.events([event("a", 2), event("a", 3)])
    assert table.snapshot()["a"] == Row("a", 3, (1, 2))


def test_an_unreadable_object_keeps_its_row_also_over_a_list() -> None:
    table, feed = make()
    feed.events([event("a", 1)])
    feed.events([event("a", -1), event("b", -1)])
    feed.page([raw("a", -1), raw("b", -1)], first=True, last=True)
    assert rows(table) == {"a": 1}
    assert {(row.object, row.reason, row.kept) for row in feed.quarantine.rows()} == {
        ("a", "value: is negative", True),
        ("b", "value: is negative", False),
    }
    feed.page([], first=True, last=True)
    assert rows(table) == {}
    assert len(feed.quarantine) == 0


def test_an_unreadable_version_does_not_take_back_what_came_with_it() -> None:
    table, feed = make()
    feed.events([event("gone", 1)])
    feed.events([event("new", 2), event("new", -1), Event(raw("gone", 1), deleted=True), event("gone", -1)])
    assert rows(table) == {"new": 2}
    assert {row.object for row in feed.quarantine.rows()} == {"new", "gone"}


def test_a_decoder_that_breaks_harms_one_object_only() -> None:
    table, feed = make()
    feed.events([event("a", [1]), event("b", 1)])
    assert rows(table) == {"b": 1}
    assert "TypeError" in feed.quarantine.rows()[0].reason

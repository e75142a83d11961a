"""The watch state machine, without network and without time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium.protocols.kubernetes import Backoff, LineSplitter, List, Stage, Wait, Watch, Watcher, WatchError


def watcher(**options: Any) -> Watcher:
    return Watcher(backoff=Backoff(minimum=1.0, maximum=8.0, random=lambda: 0.0), **options)


def page(version: str, *names: str, more: str = "") -> bytes:
    items = [{"metadata": {"name": name}} for name in names]
    return json.dumps({"metadata": {"resourceVersion": version, "continue": more}, "items": items}).encode()


def line(kind: str, version: str, **extra: Any) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": version}, **extra}}).encode() + b"\n"


def listed() -> Watcher:
    machine = watcher()
    machine.listed(page("5", "a"))
    return machine


def test_list_then_watch_from_its_version() -> None:
    machine = watcher(selectors={"fieldSelector": "spec.nodeName=n1"}, watch_timeout=60.0)
    assert machine.action(0) == List({"fieldSelector": "spec.nodeName=n1", "limit": "500"})
    listing = machine.listed(page("5", "a", "b"))
    assert (len(listing.objects), listing.first, listing.last) == (2, True, True)
    assert machine.action(0) == Watch(
        {
            "fieldSelector": "spec.nodeName=n1",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": "5",
            "timeoutSeconds": "60",
        },
        60.0,
    )


def test_pages_follow_the_continue_token_and_a_failure_starts_anew() -> None:
    machine = watcher()
    assert not machine.listed(page("5", "a", more="next")).last
    assert machine.action(0) == List({"limit": "500", "continue": "next"})
    machine.failed(0, 410)
    assert machine.action(0) == Wait(1.0)
    assert machine.action(1) == List({"limit": "500"})
    assert machine.listed(page("6", "a")).first


def test_events_move_the_version_also_bookmarks() -> None:
    machine = listed()
    machine.opened(0)
    events = machine.receive(line("ADDED", "6") + line("DELETED", "7") + line("BOOKMARK", "9"))
    assert [event.deleted for event in events] == [False, True]
    assert machine.resource_version == "9"
    machine.ended(100)
    action = machine.action(100)
    assert isinstance(action, Watch)
    assert action.parameters["resourceVersion"] == "9"


def test_a_failed_watch_is_resumed_after_a_growing_pause() -> None:
    machine = listed()
    now, pauses = 0.0, []
    for _ in range(5):
        machine.failed(now)
        action = machine.action(now)
        assert isinstance(action, Wait)
        pauses.append(action.until - now)
        now = action.until
        assert isinstance(machine.action(now), Watch)
    assert pauses == [1, 2, 4, 8, 8]
    machine.opened(now)
    machine.receive(line("BOOKMARK", "6"))
    machine.failed(now)
    assert machine.action(now) == Wait(now + 1)


def test_gone_leads_to_a_list_at_once_but_not_in_a_circle() -> None:
    machine = listed()
    machine.opened(0)
    machine.receive(line("BOOKMARK", "6"))
    machine.failed(0, 410)
    assert isinstance(machine.action(0), List)
    machine.listed(page("7"))
    machine.failed(0, 410)
    assert machine.action(0) == Wait(1.0), "the list did not help"
    assert isinstance(machine.action(1), List)


@pytest.mark.parametrize(
    ("code", "stage"), [(504, Stage.LISTING), (400, Stage.LISTING), (403, Stage.WATCHING), (0, Stage.WATCHING)]
)
def test_a_version_the_server_keeps_refusing_is_given_up(code: int, stage: Stage) -> None:
    machine = listed()
    machine.failed(0, code)
    machine.failed(0, code)
    assert machine.stage is Stage.WATCHING
    machine.failed(0, code)
    assert machine.stage is stage


def test_an_error_event_loses_nothing() -> None:
    machine = listed()
    machine.opened(0)
    status = {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}}
    with pytest.raises(WatchError, match="500: etcd is away") as caught:
        machine.receive(line("ADDED", "6") + json.dumps(status).encode() + b"\n")
    assert caught.value.code == 500
    assert machine.resource_version == "5", "event 6 will be delivered again"


def test_what_is_no_event_leads_to_a_list() -> None:
    machine = listed()
    machine.opened(0)
    with pytest.raises(WatchError) as caught:
        machine.receive(b"<html>\n")
    assert caught.value.code == 410


def test_a_stream_that_ends_at_once_does_not_spin() -> None:
    machine = listed()
    machine.opened(10)
    machine.ended(10.5)
    assert machine.action(10.5) == Wait(11.5)


def test_pauses_are_shortened_at_random_by_a_third_at_most() -> None:
    backoff = Backoff(minimum=3.0, maximum=3.0, random=lambda: 1.0)
    assert backoff.next() == pytest.approx(2.0)


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b.strip()), max_size=8), st.data())
def test_lines_survive_any_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(text + b"\n" for text in lines) + b"rest"
    splitter, found = LineSplitter(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += splitter.feed(stream[:cut])
        stream = stream[cut:]
    assert found == lines
    assert splitter.rest == b"rest"

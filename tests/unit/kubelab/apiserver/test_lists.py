"""Lists and watches over HTTP: versions, pages of one moment, streamed lists, and what does not go together."""

import base64
import json
from typing import Any

import pytest
from unit.kubelab.apiserver.wire import CONFIG_MAPS, MERGE, body, make, read_events

from kubelab.apiserver.watch import WINDOW

STREAMED = "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"


def names(listed: dict[str, Any]) -> list[str]:
    return [o["metadata"]["name"] for o in listed["items"]]


async def listed(http, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = await body(http, "GET", CONFIG_MAPS, params=query)
    return found


async def test_pages_are_of_the_moment_of_the_first(http):
    await make(http, "a", "b", "c", "d", "e")
    first = await listed(http, limit="2")
    assert first["metadata"]["remainingItemCount"] == 3
    await make(http, "bb", "f")
    await body(http, "DELETE", CONFIG_MAPS + "/d")
    await body(http, "PATCH", CONFIG_MAPS + "/c", json={"data": {"x": "y"}}, headers=MERGE)
    second = await listed(http, limit="2", **{"continue": first["metadata"]["continue"]})
    third = await listed(http, limit="2", **{"continue": second["metadata"]["continue"]})
    assert names(first) + names(second) + names(third) == ["a", "b", "c", "d", "e"]
    assert "data" not in second["items"][0]
    assert {p["metadata"]["resourceVersion"] for p in (second, third)} == {first["metadata"]["resourceVersion"]}
    assert "continue" not in third["metadata"]
    assert names(await listed(http)) == ["a", "b", "bb", "c", "e", "f"]


async def test_a_selected_page_does_not_count_the_rest(http):
    await make(http, "a", "b")
    page = await listed(http, limit="1", labelSelector="n")
    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


async def test_a_moment_that_is_forgotten_is_told_with_a_way_on(http, server):
    await make(http, "a", "b")
    first = await listed(http, limit="1")
    for number in range(WINDOW + 1):
        patch = {"data": {"n": str(number)}}
        await server.store.patch("configmaps", "a", patch, namespace="default")
    await make(http, "c")
    token = first["metadata"]["continue"]
    gone = await body(http, "GET", CONFIG_MAPS, params={"limit": "1", "continue": token}, status=410)
    assert gone["reason"] == "Expired"
    assert "The provided continue parameter is too old" in gone["message"]
    rest = await listed(http, **{"continue": gone["metadata"]["continue"]})
    assert names(rest) == ["b", "c"]
    old = {"resourceVersion": first["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    assert (await body(http, "GET", CONFIG_MAPS, params=old, status=410))["reason"] == "Expired"


async def test_exact_and_not_older(http, server):
    await make(http, "a")
    version = str(server.store.version)
    await make(http, "b")
    exact = await listed(http, resourceVersion=version, resourceVersionMatch="Exact")
    assert (names(exact), exact["metadata"]["resourceVersion"]) == (["a"], version)
    assert names(await listed(http, resourceVersion=version, resourceVersionMatch="NotOlderThan")) == ["a", "b"]
    assert names(await listed(http, resourceVersion="0")) == ["a", "b"]
    future = str(server.store.version + 9)
    for query in ({"resourceVersion": future}, {"resourceVersion": future, "resourceVersionMatch": "NotOlderThan"}):
        refused = await body(http, "GET", CONFIG_MAPS, params=query, status=504)
        assert refused["message"] == f"Too large resource version: {future}, current: {server.store.version}"
        assert refused["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    await body(http, "GET", CONFIG_MAPS + "/a", params={"resourceVersion": future}, status=504)


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"resourceVersionMatch": "Exact"}, 422, "is forbidden unless resourceVersion is provided"),
        (
            {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
            422,
            'is forbidden for resourceVersion "0"',
        ),
        (
            {"resourceVersionMatch": "Older", "resourceVersion": "1"},
            422,
            'values: "Exact", "NotOlderThan", ""',
        ),
        ({"sendInitialEvents": "true"}, 422, "sendInitialEvents is forbidden for list"),
        ({"resourceVersion": "abc"}, 400, 'parsing "abc": invalid syntax'),
        ({"continue": "x"}, 400, "continue key is not valid"),
        ({"continue": "x", "resourceVersion": "5"}, 400, "not allowed when using continue"),
        ({"limit": "many"}, 400, 'parsing "many"'),
        (
            {"watch": "1", "sendInitialEvents": "true"},
            422,
            "requires setting resourceVersionMatch to NotOlderThan",
        ),
        ({"watch": "1", "resourceVersionMatch": "NotOlderThan"}, 422, "unless sendInitialEvents is provided"),
        (
            {"watch": "1", "resourceVersionMatch": "Exact", "sendInitialEvents": "true"},
            422,
            'Unsupported value: "Exact": supported values: "NotOlderThan"',
        ),
    ],
)
async def test_options_that_do_not_go_together(http, query, status, message):
    refused = await body(http, "GET", CONFIG_MAPS, params=query, status=status)
    assert message in refused["message"]
    if status == 422:
        assert refused["message"].startswith('ListOptions.meta.k8s.io "" is invalid: ')


async def test_a_streamed_list_ends_with_a_mark_if_bookmarks_are_wanted(http, server):
    await make(http, "a")
    async with http.get(CONFIG_MAPS + STREAMED + "&allowWatchBookmarks=true") as response:
        added, mark = await read_events(response, 2)
        await make(http, "b")
        (later,) = await read_events(response, 1)
    assert [e["type"] for e in (added, mark, later)] == ["ADDED", "BOOKMARK", "ADDED"]
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    async with http.get(CONFIG_MAPS + STREAMED) as response:
        events = await read_events(response, 2)
        await make(http, "c")
        events += await read_events(response, 1)
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("ADDED", "c"),
    ]
    future = f"&resourceVersion={server.store.version + 9}"
    await body(http, "GET", CONFIG_MAPS + STREAMED + future, status=504)


async def test_a_watch_without_initial_events_begins_now(http):
    await make(http, "a")
    query = "?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"
    async with http.get(CONFIG_MAPS + query) as response:
        await make(http, "b")
        (event,) = await read_events(response, 1)
    assert event["object"]["metadata"]["name"] == "b"


async def test_a_watch_of_one_name_and_of_metadata(http):
    await make(http, "a", "b")
    accept = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
    async with http.get(CONFIG_MAPS + "/b?watch=true", headers=accept) as response:
        await body(http, "DELETE", CONFIG_MAPS + "/a")
        await body(http, "DELETE", CONFIG_MAPS + "/b")
        events = await read_events(response, 2)
    assert [(e["type"], e["object"]["kind"], e["object"]["metadata"]["name"]) for e in events] == [
        ("ADDED", "PartialObjectMetadata", "b"),
        ("DELETED", "PartialObjectMetadata", "b"),
    ]


async def test_tokens_of_other_servers_are_refused_and_not_believed(http):
    forged = base64.urlsafe_b64encode(json.dumps({"rv": 1, "start": 5}).encode()).decode()
    await body(http, "GET", CONFIG_MAPS, params={"continue": forged}, status=400)

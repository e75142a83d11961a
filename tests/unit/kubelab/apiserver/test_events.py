"""Events under their two groups."""

from unit.kubelab.apiserver.wire import MERGE, body, read_events

CORE, GROUP = "/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events"
ABOUT = {"kind": "Pod", "namespace": "default", "name": "p", "apiVersion": "v1"}


async def test_an_event_of_one_group_is_an_event_of_the_other(http):
    old = {"metadata": {"name": "e"}, "involvedObject": ABOUT, "reason": "R", "message": "text", "count": 2}
    await body(http, "POST", CORE, status=201, json={**old, "type": "Normal", "reportingComponent": "me"})
    seen = await body(http, "GET", GROUP + "/e")
    assert (seen["apiVersion"], seen["regarding"], seen["note"]) == ("events.k8s.io/v1", ABOUT, "text")
    assert (seen["deprecatedCount"], seen["reportingController"]) == (2, "me")
    await body(http, "PATCH", GROUP + "/e", json={"note": "more"}, headers=MERGE)
    kept = await body(http, "GET", CORE + "/e")
    assert (kept["message"], kept["apiVersion"]) == ("more", "v1")
    new = {"metadata": {"name": "f"}, "regarding": ABOUT, "reason": "R", "note": "n", "action": "a", "type": "Normal"}
    await body(http, "POST", GROUP, status=201, json={**new, "eventTime": "2026-01-01T00:00:00.000000Z"})
    assert (await body(http, "GET", CORE + "/f"))["involvedObject"] == ABOUT


async def test_lists_selectors_and_watches_speak_the_asked_group(http):
    await body(http, "POST", CORE, status=201, json={"metadata": {"name": "e"}, "involvedObject": ABOUT})
    listed = await body(http, "GET", GROUP, params={"fieldSelector": "regarding.name=p"})
    assert [(o["metadata"]["name"], o["regarding"]["name"]) for o in listed["items"]] == [("e", "p")]
    assert (await body(http, "GET", GROUP, params={"fieldSelector": "regarding.name!=p"}))["items"] == []
    async with http.get(GROUP + "?watch=1") as response:
        (event,) = await read_events(response, 1)
    assert event["object"]["apiVersion"] == "events.k8s.io/v1"
    assert "involvedObject" not in event["object"]


async def test_an_event_stands_beside_its_object(http):
    wrong = {"metadata": {"name": "e"}, "involvedObject": {**ABOUT, "namespace": "other"}}
    refused = await body(http, "POST", CORE, status=422, json=wrong)
    assert refused["details"]["causes"][0]["field"] == "involvedObject.namespace"

"""Which CiliumNodeConfigs are a node's, in which order; and what an API server may do meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from unit.sources.kubernetes.fake_api import FakeAPI

from cilium.sources.kubernetes import node_configs
from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.config import ClientConfig
from cilium.sources.kubernetes.errors import ApiError
from cilium.sources.kubernetes.node_configs import PATH, overlays, read_overlays
from cilium.sources.kubernetes.writes import Writes

COLLECTION = PATH.format("kube-system")


def config(name: str, selector: Any, **defaults: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"nodeSelector": selector, "defaults": defaults},
    }


EDGE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["edge", "far"]}]}


def test_those_that_select_the_node_by_name() -> None:
    objects = [
        config("z", {"matchLabels": {"zone": "edge"}}, mtu="1"),
        config("a", EDGE, mtu="2"),
        config("everybody", {}, mtu="3"),
        config("others", {"matchLabels": {"zone": "core"}}, mtu="4"),
    ]
    found, problems = overlays(objects, {"zone": "edge"})
    assert not problems
    assert [(each.source.rpartition("/")[2], each.data["mtu"]) for each in found] == [
        ("a", "2"), ("everybody", "3"), ("z", "1"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (
            config("b", {"matchExpressions": [{"key": "zone", "operator": "Is"}]}),
            "spec.nodeSelector.matchExpressions[0]",
        ),
        (config("b", {}, mtu=1500), "spec.defaults"),
        ({"metadata": {"name": "b", "namespace": "kube-system"}, "spec": {"selector": {}}}, "spec"),
    ],
)
def test_one_that_cannot_be_read_is_named_and_left_out(broken: Any, path: str) -> None:
    found, (problem,) = overlays([broken, config("a", {}, debug="true")], {})
    assert [each.source for each in found] == ["CiliumNodeConfig kube-system/a"]
    assert problem.where == "CiliumNodeConfig kube-system/b"
    assert problem.message.startswith(path)


async def test_an_api_server_that_is_not_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_configs, "RETRY", 0.001)
    async with FakeAPI() as api, Client(ClientConfig(server=api.url)) as client:
        await api.put("/api/v1/nodes", "n1", {"metadata": {"name": "n1", "labels": {"zone": "edge"}}})
        await api.put(COLLECTION, "a", config("a", EDGE, debug="true"))
        api.refuse["GET /api/v1/nodes/n1"] = (404, {"text": '{"reason": "NotFound", "code": 404}'})
        api.refuse[f"GET {COLLECTION}"] = (503, {"text": '{"reason": "ServiceUnavailable", "code": 503}'})
        found, problems = await read_overlays(Writes(client), node="n1", namespace="kube-system")
        assert ([each.data for each in found], problems) == ([{"debug": "true"}], [])
        api.refuse[f"GET {COLLECTION}"] = (404, {"text": '{"reason": "NotFound", "code": 404}'})  # no definition yet
        assert await read_overlays(Writes(client), node="n1", namespace="kube-system") == ([], [])
        api.refuse[f"GET {COLLECTION}"] = (403, {"text": '{"reason": "Forbidden", "code": 403}'})
        with pytest.raises(ApiError):
            await read_overlays(Writes(client), node="n1", namespace="kube-system")

"""Of which Services containers are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from unit.kubelab.kubelet.test_environment import CONFIG

from kubelab.kubelet.client import ApiClient
from kubelab.kubelet.service_links import variables
from kubelab.kubelet.services import KnownServices


class Api:
    """Lists Services by namespace, and counts; or fails."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.away = False

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path.split("/")[-2])
        if self.away:
            raise OSError("away")
        names = {"default": ["first", "kubernetes"], "n": ["own"]}[self.asked[-1]]
        return {"items": [service(self.asked[-1], name) for name in names]}


def service(namespace: str, name: str) -> dict[str, Any]:
    address, port = ("10.96.0.1", 443) if name == "kubernetes" else ("10.96.0.7", 80)
    spec = {"clusterIP": address, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def pod(namespace: str = "n", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "p"}, "spec": spec}


@pytest.mark.parametrize(
    ("served", "spec", "wanted"),
    [
        (True, {}, "tcp://10.96.0.1:443"),
        (True, {"enableServiceLinks": False}, "tcp://10.96.0.1:443"),
        (True, {"hostNetwork": True}, "tcp://172.30.1.1:6443"),
        (False, {}, "tcp://172.30.1.1:6443"),
    ],
)
@pytest.mark.parametrize("namespace", ["n", "default"])
async def test_the_api_server_is_named_where_it_is_reached(
    served: bool, spec: dict[str, Any], wanted: str, namespace: str
) -> None:
    known = KnownServices(cast("ApiClient", Api()), replace(CONFIG, cluster_ips=served))
    told = variables(await known.of(pod(namespace, **spec)))
    assert told["KUBERNETES_PORT"] == wanted
    host, port = wanted.removeprefix("tcp://").split(":")
    assert (told["KUBERNETES_SERVICE_HOST"], told["KUBERNETES_SERVICE_PORT_HTTPS"]) == (host, port)
    linked = {"n": "OWN", "default": "FIRST"}[namespace]
    assert (f"{linked}_SERVICE_HOST" in told) is spec.get("enableServiceLinks", True)


async def test_what_was_known_holds_while_the_api_server_is_away() -> None:
    api = Api()
    known = KnownServices(cast("ApiClient", api), replace(CONFIG, cluster_ips=True))
    before = variables(await known.of(pod()))
    api.away = True
    assert variables(await known.of(pod())) == before
    assert api.asked.count("default") == 1, "its address never changes"

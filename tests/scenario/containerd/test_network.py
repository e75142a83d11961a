"""The network of containers of images: policies, flows, ports of their nodes."""

from __future__ import annotations

import pytest
from scenario.cluster import Cluster, addresses, client, curl
from scenario.containerd.world import IMAGE, NS, pod

pytestmark = pytest.mark.scenario


def test_a_policy_holds_between_a_container_and_a_process(lab: Cluster, web: str) -> None:
    for name in ("friend", "stranger"):
        lab.apply({**client(name, "node2"), "metadata": {"name": name, "namespace": NS, "labels": {"role": name}}})
    lab.apply(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "friends", "namespace": NS},
         "spec": {"endpointSelector": {"matchLabels": {"app": web}},
                  "ingress": [{"fromEndpoints": [{"matchLabels": {"role": "friend"}}]}]}}
    )  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/friend", "pod/stranger", "--for=condition=Ready", "--timeout=20s")
    for target in addresses(lab.get("-n", NS, "pod", web)).values():
        for name, words in (("friend", "from an image"), ("stranger", "exit code 28")):  # of curl: nobody answered
            lab.eventually(
                lambda target=target, name=name, words=words: words in lab.exec(NS, name, *curl(target), check=False),
                f"{name} to {target}: {words}",
            )
    flows = lab.hubble("node1", "--to-pod", f"{NS}/{web}", "--verdict", "DROPPED", "--last", "20")
    assert flows, "the drops are seen where the container is"
    assert {flow["source"]["pod_name"] for flow in flows} == {"stranger"}
    lab.kubectl("-n", NS, "delete", "cnp", "friends")


def test_ports_and_network_of_the_node(lab: Cluster, web: str) -> None:
    port = {"ports": [{"containerPort": 8080, "hostPort": 8099}]}
    lab.apply(pod("exposed", IMAGE, container=port, nodeName="node2"),
              pod("host", IMAGE, hostNetwork=True, nodeName="node2"))  # fmt: skip
    lab.kubectl("-n", NS, "wait", "pod/exposed", "pod/host", "--for=condition=Ready", "--timeout=20s")
    places = [entry["address"] for entry in lab.get("node", "node2")["status"]["addresses"]
              if entry["type"] == "InternalIP"]  # fmt: skip
    assert [entry["ip"] for entry in lab.get("-n", NS, "pod", "host")["status"]["podIPs"]] == places
    for place in places:
        for number in (8099, 8080):
            lab.eventually(
                lambda place=place, number=number: (
                    lab.exec(NS, web, *curl(place, number), check=False) == "from an image\n"
                ),
                f"{place}, port {number}",
            )

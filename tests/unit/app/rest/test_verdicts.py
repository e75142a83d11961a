"""GET /v1/policy/verdict and selectors: what the maps say, read like the datapath, and bad questions."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pytest
from unit.cli.dbg.agent_api import agent

from cilium.app.inspection import Inspection
from cilium.app.rest import selectors, verdicts
from cilium.datapath.addresses import addresses_array, prefix_bits
from cilium.datapath.fakes import FakeMap
from cilium.datapath.generated import (
    ENDPOINT,
    ENDPOINT_KEY,
    IPCACHE_CIDR_KEY,
    IPCACHE_ENTRY,
    IPCACHE_KEY,
    EndpointFlags,
)
from cilium.features.policy.encode import class_rows, entry_rows
from cilium.features.policy.rows import PolicyClass, Verdict
from cilium.state import Table
from cilium.tables.rules import Requirement, RuleReference, Selector, SelectorUse
from cilium.tables.types import ClassId, Identity

POLICY, CLASS, REST = 7, 50, 51
NAMES = ("cilium_lxc", "cilium_ipcache", "cilium_ipcache_cidr", "cilium_policy", "cilium_policy_class")
QUESTION = {"endpoint": "shop/web-0", "direction": "ingress", "protocol": "TCP", "port": "80"}


@pytest.fixture
def node() -> Inspection:
    """Pod shop/web-0 with ingress policy 7: identity 1000 may use TCP 80 to 95 but not 81; others, ICMP echo."""
    made = agent()
    made.maps.update({name: FakeMap(name) for name in NAMES})
    endpoint(made, flags=0)
    put_address(made, "10.0.0.77/32", 1000)
    put_address(made, "fd00:9::/64", 1000)
    made.maps["cilium_policy"].update(*entry_rows([(POLICY, CLASS, _bits(1000)), (POLICY, REST, _bits(0))]))
    classes = [
        PolicyClass(ClassId(CLASS), (Verdict(8 + 12, 6, 80, 300, False, 2), Verdict(24, 6, 81, 301, True, 2))),
        PolicyClass(ClassId(REST), (Verdict(24, 1, 8, 302, False, 3),)),
    ]
    made.maps["cilium_policy_class"].update(*class_rows(classes))
    references: Table[int, RuleReference] = Table("rule-references", key=lambda row: row.cookie)
    references.writer("test").upsert(RuleReference(300, "CiliumNetworkPolicy", "shop", "p", "ingress", 1))
    made.add_tables([references])
    return made


def _bits(*numbers: int) -> Any:
    from pyroaring import BitMap

    return BitMap(numbers)


def endpoint(made: Inspection, *, flags: int, ingress: int = POLICY) -> None:
    keys, values = np.zeros(1, ENDPOINT_KEY), np.zeros(1, ENDPOINT)
    keys["address"] = addresses_array([ip_address("10.0.0.9")])
    values["ingress_policy"], values["flags"] = ingress, flags
    made.maps["cilium_lxc"].update(keys, values)


def put_address(made: Inspection, prefix: str, identity: int) -> None:
    network, values = ip_network(prefix), np.zeros(1, IPCACHE_ENTRY)
    values["identity"] = identity
    whole = network.prefixlen == network.max_prefixlen
    keys: Any = np.zeros(1, IPCACHE_KEY if whole else IPCACHE_CIDR_KEY)
    keys["address"] = addresses_array([network.network_address])
    if not whole:
        keys["prefixlen"] = 32 + prefix_bits(network)
    made.maps["cilium_ipcache" if whole else "cilium_ipcache_cidr"].update(keys, values)


@pytest.mark.parametrize(
    ("question", "verdict", "identity", "rule"),
    [
        ({"peer": "10.0.0.77"}, "allowed", 1000, "CiliumNetworkPolicy shop/p spec.ingress[1]"),
        ({"peer": "fd00:9::5", "port": "95"}, "allowed", 1000, "CiliumNetworkPolicy shop/p spec.ingress[1]"),
        ({"identity": "1000", "port": "81"}, "denied", 1000, ""),
        ({"identity": "1000", "port": "96"}, "denied", 1000, ""),
        ({"identity": "1000", "protocol": "UDP"}, "denied", 1000, ""),
        ({"peer": "8.8.8.8"}, "denied", 9, ""),
        ({"peer": "2001:db8::1"}, "denied", 10, ""),
        ({"peer": "8.8.8.8", "protocol": "ICMP", "port": "8"}, "allowed", 9, ""),
        ({"identity": "1000", "protocol": "ICMP", "port": "8"}, "denied", 1000, ""),
        ({"identity": "1"}, "allowed", 1, ""),
        ({"peer": "8.8.8.8", "direction": "egress"}, "allowed", 9, ""),
    ],
)
def test_what_the_kernel_says(
    node: Inspection, question: dict[str, str], verdict: str, identity: int, rule: str
) -> None:
    found = verdicts.verdict(node, QUESTION | question)
    assert (found["verdict"], found["identity"], found["rule"]) == (verdict, identity, rule)
    assert found["endpoint"] == 9


def test_audit_mode_of_the_endpoint(node: Inspection) -> None:
    endpoint(node, flags=EndpointFlags.AUDIT)
    assert verdicts.verdict(node, QUESTION | {"peer": "8.8.8.8"})["verdict"] == "audit"
    endpoint(node, flags=EndpointFlags.NOT_READY)
    with pytest.raises(verdicts.QuestionError, match="not ready"):
        verdicts.verdict(node, QUESTION | {"peer": "8.8.8.8"})


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"direction": "up"}, "direction: 'up' is not one of ingress, egress"),
        ({"endpoint": "shop/none", "peer": "8.8.8.8"}, "endpoint: no endpoint of this node is 'shop/none'"),
        ({"peer": "there"}, "peer: 'there' is no address"),
        ({"peer": "8.8.8.8", "protocol": "GRE"}, "protocol: 'GRE' is not one of"),
        ({"peer": "8.8.8.8", "port": "65536"}, "port: '65536' is not a number up to 65535"),
        ({"identity": "x"}, "identity: 'x' is not a number"),
    ],
)
def test_questions_that_make_no_sense(node: Inspection, question: dict[str, str], message: str) -> None:
    with pytest.raises(verdicts.QuestionError, match=message.replace("(", r"\(")):
        verdicts.verdict(node, QUESTION | question)


def test_selectors_as_people_write_them() -> None:
    made = agent()
    terms = (
        Requirement("any:app", "In", ("web",)),
        Requirement("k8s:x", "NotIn", ("a", "b")),
        Requirement("k8s:y", "Exists"),
        Requirement("k8s:z", "DoesNotExist"),
    )
    made.selectors = lambda: [SelectorUse(Selector(terms), ("CiliumNetworkPolicy shop/p",), 2, (Identity(1000),))]
    assert selectors.documents(made) == [
        {
            "selector": "any:app=web,k8s:x notin (a,b),k8s:y,!k8s:z",
            "labels": ["CiliumNetworkPolicy shop/p"],
            "users": 2,
            "identities": [1000],
        }
    ]

"""References resolved: what services and CIDR groups mean at the moment, and what is looked at again when."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from cilium.features.policy.resolve import Resolver
from cilium.sources.kubernetes.policies import decode_cnp
from cilium.state import Derivation, Table
from cilium.tables.rules import CIDRGroup, CIDRPeer, Peers, PolicyObject, Requirement, Selector
from cilium.tables.services import EndpointSlice, Service, SliceEndpoint

KEY = "CiliumNetworkPolicy/shop/p"


class World:
    """The inputs, the derivation and its output."""

    def __init__(self) -> None:
        self.tables: dict[str, Table[Any, Any]] = {
            "policies": Table("policies", key=lambda row: row.key),
            "services": Table("services", key=lambda row: row.key),
            "endpoint-slices": Table(
                "endpoint-slices", key=lambda row: row.key, indexes={"service": lambda row: (row.service_key,)}
            ),
            "cidr-groups": Table("cidr-groups", key=lambda row: row.name),
        }
        self.write = {name: table.writer("test") for name, table in self.tables.items()}
        self.out: Table[str, PolicyObject] = Table("resolved-policies", key=lambda row: row.key)
        self.derivation = Derivation(
            "resolved-policies",
            inputs=self.tables,
            outputs={"resolved-policies": self.out.writer("test")},
            compute=Resolver().compute,
        )

    def put(self, table: str, *rows: Any) -> None:
        self.write[table].commit(rows)
        self.derivation.step()

    def drop(self, table: str, key: str) -> None:
        self.write[table].delete(key)
        self.derivation.step()

    @property
    def policy(self) -> PolicyObject:
        return self.out.snapshot()[KEY]

    @property
    def peers(self) -> Peers:
        (rule,) = self.policy.rules
        return (rule.ingress or rule.egress)[0].peers

    @property
    def cidrs(self) -> list[str]:
        return [str(peer.cidr) for peer in self.peers.cidrs]


def policy(section: str, element: dict[str, Any], name: str = "p") -> PolicyObject:
    spec = {"endpointSelector": {}, section: [element]}
    row = decode_cnp(msgspec.json.encode({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
    assert not row.error
    return row


def to(*services: dict[str, Any], section: str = "egress") -> PolicyObject:
    return policy(section, {"toServices": list(services)})


def named(name: str, namespace: str = "data") -> dict[str, Any]:
    return {"k8sService": {"serviceName": name, "namespace": namespace}}


def service(name: str, namespace: str = "data", kind: str = "ClusterIP", app: str = "", **labels: str) -> Service:
    return Service(
        namespace,
        name,
        kind,
        labels=tuple(sorted(f"k8s:{key}={value}" for key, value in labels.items())),
        selector=(f"k8s:app={app}",) if app else (),
    )


def slice_of(service: str, *addresses: str, name: str = "s", namespace: str = "data") -> EndpointSlice:
    ends = tuple(
        SliceEndpoint(ip_address(address), ready=False, serving=False, terminating=False) for address in addresses
    )
    return EndpointSlice(namespace, name, service, ends)


def pods(app: str, namespace: str = "data") -> Selector:
    return Selector(
        (
            Requirement("k8s:app", "In", (app,)),
            Requirement("k8s:io.kubernetes.pod.namespace", "In", (namespace,)),
            Requirement("k8s:io.cilium.k8s.policy.cluster", "In", ("default",)),
        )
    )


def test_a_policy_without_references_passes_as_it_is() -> None:
    world = World()
    plain = policy("ingress", {"fromEndpoints": [{}]})
    world.put("policies", plain)
    assert world.policy == plain
    world.drop("policies", KEY)
    assert len(world.out.snapshot()) == 0


def test_a_service_with_a_selector_is_its_pods_whenever_it_comes() -> None:
    world = World()
    world.put("policies", to(named("db")))
    assert world.peers == Peers()
    assert world.policy.warnings == (
        "spec.egress[0].toServices[0]: there is no such object as Service data/db: selects nobody",
    )
    world.put("services", service("db", "other", app="db"))
    assert world.peers == Peers(), "another namespace"
    world.put("services", service("db", app="pg"))
    assert (world.peers, world.policy.warnings) == (Peers(selectors=(pods("pg"),)), ())
    world.put("services", service("db", app="pg15"))
    assert world.peers.selectors == (pods("pg15"),)
    world.put("endpoint-slices", slice_of("db", "10.0.0.1"))
    assert world.peers.cidrs == (), "its pods are known by their labels"
    world.drop("services", "data/db")
    assert world.peers == Peers()


def test_a_service_without_a_selector_is_the_addresses_in_its_slices() -> None:
    world = World()
    world.put("endpoint-slices", slice_of("db", "192.0.2.1", "192.0.2.1"))
    world.put("services", service("db"))
    world.put("policies", to(named("db"), section="egressDeny"))
    assert world.cidrs == ["192.0.2.1/32"]
    world.put("endpoint-slices", slice_of("db", "2001:db8::1", name="six"))
    assert world.cidrs == ["192.0.2.1/32", "2001:db8::1/128"]
    world.put("endpoint-slices", slice_of("db", "192.0.2.2"), slice_of("", "192.0.2.9", name="nobody"))
    assert world.cidrs == ["192.0.2.2/32", "2001:db8::1/128"]
    world.drop("endpoint-slices", "data/s")
    world.drop("endpoint-slices", "data/six")
    assert world.peers == Peers()
    assert "has no endpoints" in world.policy.warnings[0]
    world.put("services", service("db", kind="ExternalName"))
    assert "is a name (ExternalName)" in world.policy.warnings[0]


def test_services_by_label_of_one_namespace_or_of_all() -> None:
    chosen = {"selector": {"matchLabels": {"tier": "db"}}}
    world = World()
    world.put("services", service("a", app="a", tier="db"), service("b", "other", app="b", tier="db"), service("c"))
    world.put("policies", to({"k8sServiceSelector": chosen | {"namespace": "data"}}))
    assert world.peers.selectors == (pods("a"),)
    world.put("policies", to({"k8sServiceSelector": chosen}))
    assert world.peers.selectors == (pods("a"), pods("b", "other"))
    world.put("services", service("b", "other", app="b"), service("d", app="d", tier="db"))
    assert world.peers.selectors == (pods("a"), pods("d"))


def group(name: str, *cidrs: str, error: str = "", **labels: str) -> CIDRGroup:
    texts = tuple(sorted(f"k8s:{key}={value}" for key, value in labels.items()))
    return CIDRGroup(name, "u", texts, tuple(map(ip_network, cidrs)), error)


def from_set(*entries: dict[str, Any], name: str = "p") -> PolicyObject:
    return policy("ingress", {"fromCIDRSet": list(entries)}, name)


def test_a_cidr_group_comes_changes_breaks_and_goes() -> None:
    world = World()
    world.put("policies", from_set({"cidrGroupRef": "g", "except": ["10.1.0.0/16"]}, {"cidr": "198.51.100.0/24"}))
    assert world.cidrs == ["198.51.100.0/24"]
    assert "there is no such object as CiliumCIDRGroup g" in world.policy.warnings[0]
    world.put("cidr-groups", group("g", "10.0.0.0/8", "2001:db8::/32"), group("other", "203.0.113.0/24"))
    outside = CIDRPeer(ip_network("198.51.100.0/24"))
    holed = CIDRPeer(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),))
    assert world.peers.cidrs == (outside, holed, CIDRPeer(ip_network("2001:db8::/32")))
    assert world.policy.warnings == ()
    world.put("cidr-groups", group("g", "10.0.0.0/8", error="spec.externalCIDRs[1]: 'x' is not a CIDR"))
    assert world.peers.cidrs == (outside, holed)
    assert world.policy.warnings == (
        "spec.ingress[0].fromCIDRSet[0]: CiliumCIDRGroup g: spec.externalCIDRs[1]: 'x' is not a CIDR; "
        "its last valid CIDRs hold",
    )
    world.drop("cidr-groups", "g")
    assert world.peers.cidrs == (outside,)


def test_groups_by_label() -> None:
    world = World()
    world.put(
        "policies", from_set({"cidrGroupSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}})
    )
    world.put("cidr-groups", group("a", "10.0.0.0/8", zone="1"), group("b", "2001:db8::/32"))
    assert world.cidrs == ["10.0.0.0/8"]
    world.put("cidr-groups", group("b", "2001:db8::/32", zone="2"))
    assert world.cidrs == ["10.0.0.0/8", "2001:db8::/32"]
    world.put("cidr-groups", group("a", "10.0.0.0/8"))
    assert world.cidrs == ["2001:db8::/32"]


def test_a_change_concerns_the_policies_that_refer_to_it_and_no_other() -> None:
    world = World()
    world.put("policies", from_set({"cidrGroupRef": "g"}), from_set({"cidrGroupRef": "h"}, name="q"), to(named("db")))
    world.put("cidr-groups", group("g", "10.0.0.0/8"), group("h", "10.0.0.0/8"))
    changes = world.out.changes()
    changes.pop()
    world.put("cidr-groups", group("h", "10.0.0.0/9"))
    assert [change.key for change in changes.pop()] == ["CiliumNetworkPolicy/shop/q"]
    world.drop("policies", "CiliumNetworkPolicy/shop/q")
    changes.pop()
    world.put("cidr-groups", group("h", "10.0.0.0/10"))
    assert changes.pop() == []

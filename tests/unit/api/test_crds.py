"""The CRDs as an API server takes them: structural, and what they accept and refuse."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cilium.api import crds
from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.crds import CustomResources
from kubelab.apiserver.decoding import Cleaner
from kubelab.apiserver.errors import Invalid
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog
from kubelab.apiserver.tables import Tables

Object = dict[str, Any]
PLURALS = {
    "CiliumNetworkPolicy": "ciliumnetworkpolicies.cilium.io",
    "CiliumClusterwideNetworkPolicy": "ciliumclusterwidenetworkpolicies.cilium.io",
    "CiliumNode": "ciliumnodes.cilium.io",
    "CiliumEndpoint": "ciliumendpoints.cilium.io",
    "CiliumIdentity": "ciliumidentities.cilium.io",
    "CiliumCIDRGroup": "ciliumcidrgroups.cilium.io",
    "CiliumLocalRedirectPolicy": "ciliumlocalredirectpolicies.cilium.io",
    "CiliumNodeConfig": "ciliumnodeconfigs.cilium.io",
    "ClusterNetworkPolicy": "clusternetworkpolicies.policy.networking.k8s.io",
}

FRONTEND = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: frontend-policy, namespace: default}
spec:
  endpointSelector:
    matchLabels: {app: frontend}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: gateway}
    toPorts:
    - ports:
      - port: "8080"
        protocol: TCP
      authentication:
        mode: required
"""
EVERYTHING = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: everything, namespace: default}
specs:
- endpointSelector: {}
  enableDefaultDeny: {ingress: false, egress: true}
  labels: [{key: team, value: a, source: k8s}]
  description: all there is
  log: {value: audit}
  ingress:
  - {}
  - fromEndpoints:
    - matchExpressions: [{key: 'k8s:io.kubernetes.pod.namespace', operator: In, values: [a, b]}]
  - fromCIDR: [10.0.0.0/8, 'fd00::/64']
    toPorts: [{ports: [{port: "http"}, {port: "1000", endPort: 2000, protocol: UDP}]}]
  - fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidrGroupRef: office}]
  - fromEntities: [cluster, world-ipv6]
    icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]
  ingressDeny:
  - fromNodes: [{}]
    toPorts: [{ports: [{port: "0", protocol: ANY}]}]
  egress:
  - toServices: [{k8sService: {serviceName: dns, namespace: kube-system}}]
    toPorts: [{ports: [{port: "53"}], rules: {dns: [{matchPattern: '*.example.com'}]}}]
  - toFQDNs: [{matchName: example.com}, {matchPattern: '**.example.com'}]
    toPorts:
    - ports: [{port: "443", protocol: TCP}]
      serverNames: [example.com]
      rules: {http: [{method: GET, path: /a.*, headers: ['X: y'], headerMatches: [{name: Z, value: '1'}]}]}
    authentication: {mode: disabled}
  egressDeny:
  - toEntities: [none]
"""
NODES = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: nodes}
spec:
  nodeSelector: {matchLabels: {role: worker}}
  ingress: [{fromEntities: [remote-node]}]
"""
OTHERS = [
    """
kind: CiliumNode
metadata: {name: n1}
spec:
  bootid: x
  addresses: [{type: InternalIP, ip: 172.30.1.11}, {type: CiliumInternalIP, ip: 'fd00::1'}]
  health: {ipv4: 10.0.0.2}
  ipam: {podCIDRs: [10.0.0.0/24, 'fd00::/120'], pools: {allocated: [{pool: default, cidrs: [10.0.0.0/24]}]}}
""",
    """
kind: CiliumEndpoint
metadata: {name: web, namespace: default}
status:
  id: 7
  state: ready
  identity: {id: 1234, labels: ['k8s:app=web']}
  networking: {addressing: [{ipv4: 10.0.0.5, ipv6: 'fd00::5'}], node: 172.30.1.11}
  named-ports: [{name: http, port: 80, protocol: TCP}]
  policy: {ingress: {enforcing: true, state: ENABLED}, egress: {enforcing: false}}
""",
    "{kind: CiliumIdentity, metadata: {name: '1234'}, security-labels: {'k8s:app': web}}",
    "{kind: CiliumCIDRGroup, metadata: {name: office}, spec: {externalCIDRs: [192.0.2.0/24, '2001:db8::/32']}}",
    """
kind: CiliumNodeConfig
metadata: {name: a, namespace: default}
spec: {defaults: {debug: 'true'}, nodeSelector: {}}
""",
]


REDIRECTS = [
    """
kind: CiliumLocalRedirectPolicy
metadata: {name: metadata, namespace: default}
spec:
  description: credentials come from this node's proxy
  skipRedirectFromBackend: true
  redirectFrontend: {addressMatcher: {ip: 169.254.169.254, toPorts: [{port: "80", protocol: TCP}]}}
  redirectBackend:
    localEndpointSelector: {matchLabels: {app: proxy}}
    toPorts: [{port: "8080", protocol: TCP}]
""",
    """
kind: CiliumLocalRedirectPolicy
metadata: {name: dns, namespace: default}
spec:
  skipRedirectFromBackend: false
  redirectFrontend: {serviceMatcher: {serviceName: kube-dns, namespace: default}}
  redirectBackend:
    localEndpointSelector: {matchExpressions: [{key: app, operator: Exists}]}
    toPorts: [{port: "53", protocol: UDP, name: dns}, {port: "53", protocol: TCP, name: dns-tcp}]
""",
]


TIERS = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: tiers}
spec:
  tier: Admin
  priority: 0
  subject: {pods: {podSelector: {matchLabels: {app: web}}}}
  ingress:
  - name: from the other team
    action: Pass
    from: [{namespaces: {matchLabels: {team: b}}}, {pods: {namespaceSelector: {}, podSelector: {}}}]
    protocols:
    - tcp: {destinationPort: {number: 80}}
    - sctp: {destinationPort: {range: {start: 1, end: 2}}}
    - destinationNamedPort: http
  egress:
  - action: Accept
    to: [{nodes: {}}, {networks: [10.0.0.0/8, '::/0']}, {domainNames: ['*.example.org']}]
  - action: Deny
    to: [{networks: [0.0.0.0/0]}]
"""


class Server:
    def __init__(self) -> None:
        self.schemas, registry = Schemas(), Registry(builtin_resources())
        self.store = Store(registry, strategies=StrategyCatalog(self.schemas))
        self._crds = CustomResources(self.store, registry, self.schemas, Tables())

    async def start(self) -> None:
        await self.store.create("namespaces", {"metadata": {"name": "default"}})
        for crd in crds.load():
            await self.store.create("customresourcedefinitions.apiextensions.k8s.io", crd)

    async def create(self, text: str, *, dry_run: bool = True) -> Object:
        obj = {"apiVersion": "cilium.io/v2", **yaml.safe_load(text)}
        resource = PLURALS[obj["kind"]]
        cleaner = Cleaner(obj["kind"])
        group, _, version = obj["apiVersion"].partition("/")
        cleaner.clean(obj, self.schemas.node(group, version, obj["kind"]))
        assert cleaner.unknown == []
        return await self.store.create(resource, obj, namespace=obj["metadata"].get("namespace", ""), dry_run=dry_run)


@pytest.fixture(scope="module")
def server() -> Server:
    """One for all tests: they write nothing that others read."""
    server = Server()
    asyncio.run(server.start())
    return server


async def test_every_definition_is_established(server: Server) -> None:
    found = server.store.peek_all("customresourcedefinitions.apiextensions.k8s.io")
    assert {crd["metadata"]["name"] for crd in found} == set(PLURALS.values())
    for crd in found:
        conditions = {entry["type"]: entry["status"] for entry in crd["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert server.store.registry.get(crd["metadata"]["name"]) is not None


def test_no_reference_is_left() -> None:
    assert "$ref" not in yaml.safe_dump(crds.load())
    with pytest.raises(KeyError):
        crds.resolve({"$ref": "nothing"}, {})


@pytest.mark.parametrize("text", [FRONTEND, EVERYTHING, NODES, TIERS, *OTHERS, *REDIRECTS])
async def test_good_objects_are_kept_whole(server: Server, text: str) -> None:
    created = await server.create(text)
    wanted = yaml.safe_load(text)
    for name in set(wanted) - {"metadata", "apiVersion", "kind"}:
        assert created[name] == wanted[name]


async def test_generation_and_status(server: Server) -> None:
    created = await server.create(FRONTEND, dry_run=False)
    status = {"conditions": [{"type": "Valid", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    resource = PLURALS["CiliumNetworkPolicy"]
    updated = await server.store.update(resource, {**created, "status": status}, subresource="status")
    assert updated["status"] == status
    assert updated["metadata"]["generation"] == created["metadata"]["generation"]


def broken(change: str, value: Any) -> str:
    """The sample with everything, with one path set to something else."""
    policy = copy.deepcopy(yaml.safe_load(EVERYTHING))
    node = policy["specs"][0]
    *path, last = [int(part) if part.isdecimal() else part for part in change.split(".")]
    for part in path:
        node = node[part]
    node[last] = value
    return str(yaml.safe_dump(policy))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("ingress.2.toPorts.0.ports.0.port", "70000"),
        ("ingress.2.toPorts.0.ports.0.port", "-1"),
        ("ingress.2.toPorts.0.ports.0.protocol", "tcp"),
        ("ingress.2.toPorts.0.ports", [{"port": "1"}] * 41),
        ("ingress.2.toPorts.0.ports.1.endPort", 70000),
        ("ingress.2.fromCIDR.0", "10.0.0.0/33"),
        ("ingress.2.fromCIDR.1", "fd00::/129"),
        ("ingress.2.fromCIDR.1", "example.com"),
        ("ingress.3.fromCIDRSet.0.cidrGroupRef", "office"),
        ("ingress.3.fromCIDRSet.0.except.0", "everything"),
        ("ingress.4.fromEntities.0", "everybody"),
        ("ingress.4.icmps.0.fields.0.type", 256),
        ("ingress.4.icmps.0.fields.0.family", "ipv4"),
        ("ingress.1.fromEndpoints.0.matchExpressions.0.operator", "Equals"),
        ("ingress.1.fromRequires", [{}]),
        ("egress.1.toFQDNs.0.matchPattern", "*"),
        ("egress.1.toFQDNs.0.matchName", "a b"),
        ("egress.1.authentication.mode", "maybe"),
        ("egress.0.toPorts.0.rules.http", []),
        ("endpointSelector.matchLabels", {"app": "not a value"}),
        ("nodeSelector", {}),
    ],
)
async def test_impossible_fields_are_named(server: Server, path: str, value: Any) -> None:
    with pytest.raises(Invalid) as caught:
        await server.create(broken(path, value))
    field = "specs[0]"
    for part in path.split("."):
        field += f"[{part}]" if part.isdecimal() else f".{part}"
    # The fault is at the field, at the alternatives of the object around it, or at one of its members.
    named = [cause.field for cause in caught.value.causes]
    assert any(name and (field.startswith(name) or name.startswith(field)) for name in named), named


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("redirectFrontend.addressMatcher.toPorts.0.port", "0"),
        ("redirectFrontend.addressMatcher.toPorts.0.port", "65536"),
        ("redirectFrontend.addressMatcher.toPorts.0.port", 80),
        ("redirectFrontend.addressMatcher.toPorts.0.protocol", "SCTP"),
        ("redirectFrontend.addressMatcher.toPorts", []),
        ("redirectFrontend.serviceMatcher", {"serviceName": "a", "namespace": "default"}),
        ("redirectBackend.toPorts", []),
        ("redirectBackend.toPorts.0.name", "-a"),
        ("redirectBackend.localEndpointSelector.matchLabels", {"app": "not a value"}),
    ],
)
async def test_impossible_redirects_are_refused(server: Server, path: str, value: Any) -> None:
    policy = yaml.safe_load(REDIRECTS[0])
    node = policy["spec"]
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    with pytest.raises(Invalid) as caught:
        await server.create(yaml.safe_dump(policy))
    assert any(cause.field and cause.field.startswith("spec.redirect") for cause in caught.value.causes)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tier", "Normal"),
        ("priority", 1001),
        ("subject", {}),
        ("subject.namespaces", {}),
        ("ingress.0.action", "Allow"),
        ("ingress.0.name", "x" * 101),
        ("ingress.0.from", []),
        ("ingress.0.from.0", {"networks": ["10.0.0.0/8"]}),
        ("ingress.0.protocols.0.tcp.destinationPort", {"number": 0}),
        ("ingress.0.protocols.0.tcp", {}),
        ("egress.0.to.1.networks", ["10.0.0.0/33"]),
        ("egress.0.to.2.domainNames", ["a*.b"]),
        ("egress", [{"action": "Deny", "to": [{"nodes": {}}]}] * 26),
    ],
)
async def test_impossible_cluster_policies_are_refused(server: Server, path: str, value: Any) -> None:
    policy = yaml.safe_load(TIERS)
    node = policy["spec"]
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    with pytest.raises((Invalid, AssertionError)):  # a field that is not known is dropped, which `create` tells
        await server.create(yaml.safe_dump(policy))


@pytest.mark.parametrize("port", ["1", "99", "1000", "9999", "10000", "59999", "60000", "64999", "65499", "65535"])
async def test_every_port_can_be_redirected(server: Server, port: str) -> None:
    await server.create(REDIRECTS[0].replace('"80"', f'"{port}"'))


@pytest.mark.parametrize(
    "text",
    [
        "{kind: CiliumNetworkPolicy, metadata: {name: a, namespace: default}}",
        "{kind: CiliumNetworkPolicy, metadata: {name: a, namespace: default}, spec: {ingress: []}}",
        "{kind: CiliumIdentity, metadata: {name: '1'}}",
        "{kind: CiliumCIDRGroup, metadata: {name: a}, spec: {externalCIDRs: [x]}}",
        "{kind: CiliumEndpoint, metadata: {name: a, namespace: default}, status: {state: happy}}",
        "{kind: CiliumNode, metadata: {name: a}, spec: {ipam: {podCIDRs: [10.0.0.0]}}}",
        "{kind: CiliumNodeConfig, metadata: {name: a, namespace: default}, spec: {nodeSelector: {}}}",
        "{kind: CiliumLocalRedirectPolicy, metadata: {name: a, namespace: default}}",
        "{kind: CiliumLocalRedirectPolicy, metadata: {name: a, namespace: default}, spec: {redirectFrontend: {}}}",
    ],
)
async def test_incomplete_objects_are_refused(server: Server, text: str) -> None:
    with pytest.raises(Invalid):
        await server.create(text)


async def test_rules_between_fields_are_told_in_their_words(server: Server) -> None:
    policy = yaml.safe_load(FRONTEND)
    rule = policy.get("spec") or policy["specs"][0]
    rule.pop("endpointSelector", None)
    rule["nodeSelector"] = {}
    policy["metadata"]["name"] = "nodes"
    with pytest.raises(Invalid, match="nodeSelector selects nodes, which only a CiliumClusterwideNetworkPolicy may do"):
        await server.create(yaml.safe_dump(policy))


def test_every_field_says_what_it_is() -> None:
    missing = [path for definition in crds.load() for path in undescribed(definition)]
    assert not missing


def undescribed(definition: Object) -> list[str]:
    def below(schema: Object, path: str) -> Iterator[str]:
        if "description" not in schema:
            yield path
        for name, child in (schema.get("properties") or {}).items():
            yield from below(child, f"{path}.{name}")
        for name in ("items", "additionalProperties"):
            inner = schema.get(name)
            if isinstance(inner, dict):
                yield from below({"description": "of the list", **inner}, f"{path}[]")

    schema = copy.deepcopy(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    for common in ("apiVersion", "kind", "metadata"):  # the API server describes them
        schema["properties"].pop(common)
    return list(below(schema, definition["spec"]["names"]["kind"]))

"""The policy objects as the API delivers them, field by field.

In: JSON. Out: structs that refuse what they do not know: a field that is not understood might be the one that closes.
`None` is an absent list, which means something else than an empty one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cilium.sources.kubernetes.policies.selectors import LabelSelector

# Field names below are the API's.
# ruff: noqa: N815


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything below `spec`."""


class Metadata(msgspec.Struct, frozen=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    annotations: dict[str, str] | None = None


class PortProtocol(Strict, frozen=True):
    port: str | None = None
    endPort: int | None = None
    protocol: str | None = None


class PortRule(Strict, frozen=True):
    ports: tuple[PortProtocol, ...] | None = None
    rules: dict[str, tuple[dict[str, Any], ...]] | None = None
    terminatingTLS: TLSContext | None = None
    originatingTLS: TLSContext | None = None
    serverNames: tuple[str, ...] | None = None
    listener: Listener | None = None
    authentication: Authentication | None = None


class Secret(Strict, frozen=True):
    name: str
    namespace: str = ""


class TLSContext(Strict, frozen=True):
    secret: Secret
    trustedCA: str = ""
    certificate: str = ""
    privateKey: str = ""


class EnvoyConfig(Strict, frozen=True):
    name: str
    kind: str = ""


class Listener(Strict, frozen=True):
    envoyConfig: EnvoyConfig
    name: str
    priority: int | None = None


class HeaderMatch(Strict, frozen=True):
    name: str
    mismatch: str = ""
    secret: Secret | None = None
    value: str = ""


class HTTPRule(Strict, frozen=True):
    path: str = ""
    method: str = ""
    host: str = ""
    headers: tuple[str, ...] | None = None
    headerMatches: tuple[HeaderMatch, ...] | None = None


class PortDenyRule(Strict, frozen=True):
    ports: tuple[PortProtocol, ...] | None = None


class Authentication(Strict, frozen=True):
    mode: str


class ICMPField(Strict, frozen=True):
    type: int | str
    family: str | None = None


class ICMPRule(Strict, frozen=True):
    fields: tuple[ICMPField, ...] | None = None


class CIDRRule(Strict, frozen=True):
    cidr: str | None = None
    cidrGroupRef: str | None = None
    cidrGroupSelector: LabelSelector | None = None
    except_: tuple[str, ...] | None = msgspec.field(default=None, name="except")


class ServiceName(Strict, frozen=True):
    serviceName: str = ""
    namespace: str = ""


class ServiceLabels(Strict, frozen=True):
    selector: LabelSelector
    namespace: str = ""


class ServiceRule(Strict, frozen=True):
    k8sService: ServiceName | None = None
    k8sServiceSelector: ServiceLabels | None = None


class FQDNSelector(Strict, frozen=True):
    """A selector of toFQDNs, and a rule of `rules.dns`."""

    matchName: str | None = None
    matchPattern: str | None = None


class Sources(Strict, frozen=True):
    """Whom an element of `ingress` or `ingressDeny` is about."""

    fromEndpoints: tuple[LabelSelector, ...] | None = None
    fromRequires: tuple[LabelSelector, ...] | None = None
    fromCIDR: tuple[str, ...] | None = None
    fromCIDRSet: tuple[CIDRRule, ...] | None = None
    fromEntities: tuple[str, ...] | None = None
    fromGroups: tuple[dict[str, Any], ...] | None = None
    fromNodes: tuple[LabelSelector, ...] | None = None


class Destinations(Strict, frozen=True):
    """Whom an element of `egress` or `egressDeny` is about."""

    toEndpoints: tuple[LabelSelector, ...] | None = None
    toRequires: tuple[LabelSelector, ...] | None = None
    toCIDR: tuple[str, ...] | None = None
    toCIDRSet: tuple[CIDRRule, ...] | None = None
    toEntities: tuple[str, ...] | None = None
    toServices: tuple[ServiceRule, ...] | None = None
    toGroups: tuple[dict[str, Any], ...] | None = None
    toNodes: tuple[LabelSelector, ...] | None = None


class Ingress(Sources, frozen=True):
    toPorts: tuple[PortRule, ...] | None = None
    icmps: tuple[ICMPRule, ...] | None = None
    authentication: Authentication | None = None


class IngressDeny(Sources, frozen=True):
    toPorts: tuple[PortDenyRule, ...] | None = None
    icmps: tuple[ICMPRule, ...] | None = None


class Egress(Destinations, frozen=True):
    toFQDNs: tuple[FQDNSelector, ...] | None = None
    toPorts: tuple[PortRule, ...] | None = None
    icmps: tuple[ICMPRule, ...] | None = None
    authentication: Authentication | None = None


class EgressDeny(Destinations, frozen=True):
    toPorts: tuple[PortDenyRule, ...] | None = None
    icmps: tuple[ICMPRule, ...] | None = None


Element = Ingress | IngressDeny | Egress | EgressDeny


class DefaultDeny(Strict, frozen=True):
    ingress: bool | None = None
    egress: bool | None = None


class Label(Strict, frozen=True):
    key: str
    value: str = ""
    source: str = ""


class Log(Strict, frozen=True):
    value: str = ""


class RuleSpec(Strict, frozen=True):
    """`spec` of a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy."""

    endpointSelector: LabelSelector | None = None
    nodeSelector: LabelSelector | None = None
    ingress: tuple[Ingress, ...] | None = None
    ingressDeny: tuple[IngressDeny, ...] | None = None
    egress: tuple[Egress, ...] | None = None
    egressDeny: tuple[EgressDeny, ...] | None = None
    enableDefaultDeny: DefaultDeny | None = None
    labels: tuple[Label, ...] | None = None
    description: str | None = None
    log: Log | None = None


class Object(msgspec.Struct, frozen=True):
    """The envelope, decoded first: it names the object even when the rest is wrong."""

    metadata: Metadata = Metadata()


class CiliumPolicy(msgspec.Struct, frozen=True):
    spec: RuleSpec | None = None
    specs: tuple[RuleSpec, ...] | None = None


class IPBlock(Strict, frozen=True):
    cidr: str
    except_: tuple[str, ...] | None = msgspec.field(default=None, name="except")


class NetworkPolicyPeer(Strict, frozen=True):
    podSelector: LabelSelector | None = None
    namespaceSelector: LabelSelector | None = None
    ipBlock: IPBlock | None = None


class NetworkPolicyPort(Strict, frozen=True):
    protocol: str | None = None
    port: int | str | None = None
    endPort: int | None = None


class NetworkPolicyIngress(Strict, frozen=True):
    from_: tuple[NetworkPolicyPeer, ...] | None = msgspec.field(default=None, name="from")
    ports: tuple[NetworkPolicyPort, ...] | None = None


class NetworkPolicyEgress(Strict, frozen=True):
    to: tuple[NetworkPolicyPeer, ...] | None = None
    ports: tuple[NetworkPolicyPort, ...] | None = None


class NetworkPolicySpec(Strict, frozen=True):
    podSelector: LabelSelector = LabelSelector()
    ingress: tuple[NetworkPolicyIngress, ...] | None = None
    egress: tuple[NetworkPolicyEgress, ...] | None = None
    policyTypes: tuple[str, ...] | None = None


class NetworkPolicy(msgspec.Struct, frozen=True):
    spec: NetworkPolicySpec = NetworkPolicySpec()


class PortSpan(Strict, frozen=True):
    start: int
    end: int


class DestinationPort(Strict, frozen=True):
    number: int | None = None
    range: PortSpan | None = None


class Transport(Strict, frozen=True):
    destinationPort: DestinationPort | None = None


class NamespacedPod(Strict, frozen=True):
    podSelector: LabelSelector
    namespaceSelector: LabelSelector = LabelSelector()


class ClusterSubject(Strict, frozen=True):
    namespaces: LabelSelector | None = None
    pods: NamespacedPod | None = None


OneOf = dict[str, msgspec.Raw]
"""One field; of a kind that a later version of the API may have invented."""


class ClusterRule(Strict, frozen=True):
    action: str
    name: str = ""
    protocols: tuple[OneOf, ...] | None = None


class ClusterIngress(ClusterRule, frozen=True, kw_only=True):
    from_: tuple[OneOf, ...] = msgspec.field(name="from")


class ClusterEgress(ClusterRule, frozen=True, kw_only=True):
    to: tuple[OneOf, ...]


class ClusterNetworkPolicySpec(Strict, frozen=True):
    tier: str
    priority: int
    subject: ClusterSubject
    ingress: tuple[ClusterIngress, ...] | None = None
    egress: tuple[ClusterEgress, ...] | None = None


class ClusterNetworkPolicy(msgspec.Struct, frozen=True):
    spec: ClusterNetworkPolicySpec

"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy.

In: one object as JSON. Out: a `PolicyObject`; content that is wrong becomes its `error`, never an exception.
"""

from __future__ import annotations

import msgspec

from cilium.settings import PolicySettings
from cilium.sources.kubernetes.policies.envelope import decode
from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.l7 import authenticates, beyond_l4, check_nodes
from cilium.sources.kubernetes.policies.peers import PeerContext
from cilium.sources.kubernetes.policies.ports import icmp_field, port_protocol
from cilium.sources.kubernetes.policies.selectors import (
    LabelSelector,
    in_namespace,
    names,
    requirements,
)
from cilium.sources.kubernetes.policies.wire import (
    CiliumPolicy,
    Element,
    ICMPRule,
    Log,
    PortDenyRule,
    PortRule,
    RuleSpec,
)
from cilium.tables.labels import NAMESPACE
from cilium.tables.rules import Action, DirectionRule, PolicyObject, PortRange, Rule, Selector

MAX_PORTS = 40
"""Ports of one entry of toPorts, and fields of one entry of icmps."""
MAX_LOG = 32
"""Characters of log.value."""
PLAIN = PolicySettings()


def decode_cnp(raw: bytes | msgspec.Raw, *, cluster: str = "default", settings: PolicySettings = PLAIN) -> PolicyObject:
    """`cluster` is the name of this cluster: peer selectors that name no cluster mean it."""
    return decode("CiliumNetworkPolicy", raw, lambda namespace: _Parser(namespace, cluster, settings).policy(raw))


def decode_ccnp(
    raw: bytes | msgspec.Raw, *, cluster: str = "default", settings: PolicySettings = PLAIN
) -> PolicyObject:
    return decode("CiliumClusterwideNetworkPolicy", raw, lambda _: _Parser("", cluster, settings).policy(raw))


class _Parser:
    """Parses one object; collects warnings on the way."""

    def __init__(self, namespace: str, cluster: str, settings: PolicySettings) -> None:
        self._namespace = namespace
        self._settings = settings
        self._warnings: list[str] = []
        self._peers = PeerContext(
            namespace=namespace,
            cluster=cluster,
            node_selectors=settings.node_selectors,
            warnings=self._warnings,
        )

    def policy(self, raw: bytes | msgspec.Raw) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
        policy = msgspec.json.decode(raw, type=CiliumPolicy)
        if policy.spec is None and not policy.specs:
            raise PolicyError("spec", "is missing: a policy needs spec or specs")
        rules = [] if policy.spec is None else [self._rule(policy.spec, "spec")]
        rules += [self._rule(spec, f"specs[{index}]") for index, spec in enumerate(policy.specs or ())]
        return tuple(rules), tuple(self._warnings)

    def _rule(self, spec: RuleSpec, path: str) -> Rule:
        sections: dict[str, tuple[Element, ...]] = {
            "ingress": spec.ingress or (),
            "ingressDeny": spec.ingressDeny or (),
            "egress": spec.egress or (),
            "egressDeny": spec.egressDeny or (),
        }
        if not any(sections.values()):
            raise PolicyError(path, "has no rules: ingress, ingressDeny, egress and egressDeny are all empty")
        parsed = {
            section: tuple(
                self._element(element, section, index, f"{path}.{section}[{index}]")
                for index, element in enumerate(elements)
            )
            for section, elements in sections.items()
        }
        ingress, egress = parsed["ingress"] + parsed["ingressDeny"], parsed["egress"] + parsed["egressDeny"]
        if spec.nodeSelector is not None:
            check_nodes(sections, path)
        deny = spec.enableDefaultDeny
        return Rule(
            subject=self._subject(spec, path),
            ingress=ingress,
            egress=egress,
            default_deny_ingress=bool(ingress) and (deny is None or deny.ingress is not False),
            default_deny_egress=bool(egress) and (deny is None or deny.egress is not False),
            node_subject=spec.nodeSelector is not None,
            labels=tuple(
                f"{label.source or 'unspec'}:{label.key}" + (f"={label.value}" if label.value else "")
                for label in spec.labels or ()
            ),
            description=spec.description or "",
            log=_log(spec.log, f"{path}.log.value"),
        )

    def _subject(self, spec: RuleSpec, path: str) -> Selector:
        if spec.nodeSelector is not None:
            if spec.endpointSelector is not None:
                raise PolicyError(f"{path}.nodeSelector", "cannot be combined with endpointSelector")
            if self._namespace:
                raise PolicyError(f"{path}.nodeSelector", "is for CiliumClusterwideNetworkPolicy only")
            return Selector(requirements(spec.nodeSelector, f"{path}.nodeSelector", source="any"))
        if spec.endpointSelector is None:
            raise PolicyError(f"{path}.endpointSelector", "is missing; {} selects every endpoint")
        return self._endpoints(spec.endpointSelector, f"{path}.endpointSelector")

    def _endpoints(self, selector: LabelSelector, path: str) -> Selector:
        """A namespaced policy selects in its own namespace, whatever its selector says."""
        terms = requirements(selector, path, source="any")
        if not self._namespace:
            return Selector(terms)
        own = in_namespace(self._namespace)
        foreign = [names((term,), NAMESPACE) for term in terms]
        kept = tuple(term for term, is_foreign in zip(terms, foreign, strict=True) if not is_foreign)
        named = (term for term, is_foreign in zip(terms, foreign, strict=True) if is_foreign)
        if any(term.operator != "In" or term.values != own.values for term in named):
            self._warnings.append(f"{path}: selects in namespace {self._namespace} only; other namespaces are ignored")
        return Selector((*kept, own))

    def _element(self, element: Element, section: str, index: int, path: str) -> DirectionRule:
        deny = section.endswith("Deny")
        peers, later = self._peers.peers(element, path, deny=deny)
        ports, closed = self._ports(element, section, path)
        authentication = getattr(element, "authentication", None)
        if authentication is not None and authenticates(authentication.mode, f"{path}.authentication.mode"):
            ports, closed = (), (*closed, f"{path}.authentication")
        return DirectionRule(
            peers=peers,
            ports=ports,
            action=Action.DENY if deny else Action.ALLOW,
            index=index,
            section=section,
            unenforced=(*later, *closed),
        )

    def _ports(self, element: Element, section: str, path: str) -> tuple[tuple[PortRange, ...] | None, tuple[str, ...]]:
        """The ports of an element, None for all traffic, and the parts that open nothing in this version."""
        if element.icmps:
            if element.toPorts:
                raise PolicyError(f"{path}.icmps", "cannot be combined with toPorts: write two rules")
            return self._icmps(element.icmps, f"{path}.icmps"), ()
        if not element.toPorts:
            return None, ()
        ports: list[PortRange] = []
        closed: list[str] = []
        rules: tuple[PortRule | PortDenyRule, ...] = element.toPorts
        for index, rule in enumerate(rules):
            where = f"{path}.toPorts[{index}]"
            ranges = self._port_list(rule, where)
            later = beyond_l4(rule, where, section=section)
            closed += later
            if not later:
                ports += ranges
        return tuple(ports), tuple(closed)

    def _port_list(self, rule: PortRule | PortDenyRule, path: str) -> list[PortRange]:
        entries = rule.ports or ()
        if len(entries) > MAX_PORTS:
            raise PolicyError(f"{path}.ports", f"has {len(entries)} entries, at most {MAX_PORTS} are allowed")
        extended = self._settings.extended_protocols
        return [
            port_protocol(entry, f"{path}.ports[{index}]", extended=extended) for index, entry in enumerate(entries)
        ]

    def _icmps(self, rules: tuple[ICMPRule, ...], path: str) -> tuple[PortRange, ...]:
        ranges = []
        for index, rule in enumerate(rules):
            where = f"{path}[{index}].fields"
            fields = rule.fields or ()
            if len(fields) > MAX_PORTS:
                raise PolicyError(where, f"has {len(fields)} entries, at most {MAX_PORTS} are allowed")
            ranges += [icmp_field(field, f"{where}[{number}]") for number, field in enumerate(fields)]
        return tuple(ranges)


def _log(log: Log | None, path: str) -> str:
    """The text that goes into every verdict of the rule. Raises PolicyError."""
    value = log.value if log is not None else ""
    if len(value) > MAX_LOG:
        raise PolicyError(path, f"has {len(value)} characters, at most {MAX_LOG} are allowed")
    if not value.isprintable():
        raise PolicyError(path, "has characters that cannot be printed")
    return value

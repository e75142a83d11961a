"""What rules say above L4: parsed and validated, to be enforced by a later version.

In: entries of `toPorts`, `toFQDNs`. Out: nothing, or a PolicyError: what is held until then must be right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.ports import number
from cilium.sources.kubernetes.policies.wire import Element, PortProtocol, PortRule

MAX_NAME = 255
_NAME = re.compile(r"[-A-Za-z0-9_.]+")
_PATTERN = re.compile(r"[-A-Za-z0-9_.*]+")
_DNS_PROTOCOLS = {"", "ANY", "TCP", "UDP"}


class FQDNSelector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of `toFQDNs` and of `rules.dns`."""

    matchName: str | None = None  # noqa: N815 - the API's name
    matchPattern: str | None = None  # noqa: N815


def check(rule: PortRule, section: str, path: str) -> None:
    """Raises PolicyError for what contradicts itself in one entry of `toPorts`."""
    kinds = sorted(rule.rules or {})
    for kind in kinds:
        if kind not in {"http", "dns"}:
            raise PolicyError(f"{path}.rules.{kind}", "is not one of http, dns")
    if len(kinds) > 1:
        raise PolicyError(f"{path}.rules", "names two L7 protocols on one port")
    if kinds and not rule.ports:
        raise PolicyError(f"{path}.ports", "must be given for L7 rules")
    for index, entry in enumerate(rule.ports or ()):
        for kind in kinds:
            (_http if kind == "http" else _dns)(entry, f"{path}.ports[{index}]")
    if "dns" in kinds and section != "egress":
        raise PolicyError(f"{path}.rules.dns", "is for egress only")
    _server_names(rule, bool(kinds), path)
    _listener(rule, bool(kinds), section, path)


def check_nodes(sections: Mapping[str, Sequence[Element]], path: str) -> None:
    """Of a rule about nodes: nothing above L4 but DNS on egress. Raises PolicyError."""
    for section, elements in sections.items():
        for position, element in enumerate(elements):
            for index, rule in enumerate(element.toPorts or ()):
                if isinstance(rule, PortRule) and "http" in (rule.rules or {}):
                    where = f"{path}.{section}[{position}].toPorts[{index}].rules.http"
                    raise PolicyError(where, "is not possible for nodes")


def check_fqdns(entries: Sequence[object], path: str) -> None:
    """`toFQDNs`: each exactly one of matchName and matchPattern. Raises PolicyError."""
    for index, entry in enumerate(entries):
        where = f"{path}[{index}]"
        try:
            selector = msgspec.convert(entry, FQDNSelector)
        except msgspec.ValidationError as error:
            raise PolicyError(where, str(error).replace("`", "'")) from None
        if (selector.matchName is None) == (selector.matchPattern is None):
            raise PolicyError(where, "needs exactly one of matchName and matchPattern")
        name, allowed, field = selector.matchName, _NAME, "matchName"
        if name is None:
            name, allowed, field = selector.matchPattern or "", _PATTERN, "matchPattern"
        _dns_name(name, allowed, f"{where}.{field}")


def _dns_name(name: str, allowed: re.Pattern[str], path: str) -> None:
    if len(name) > MAX_NAME:
        raise PolicyError(path, f"has {len(name)} characters, at most {MAX_NAME} are allowed")
    if not allowed.fullmatch(name):
        star = ", '*'" if allowed is _PATTERN else ""
        raise PolicyError(path, f"{name!r} is not a DNS name: letters, digits, '-', '_', '.'{star}")


def _http(entry: PortProtocol, path: str) -> None:
    if (entry.protocol or "").upper() != "TCP":
        raise PolicyError(f"{path}.protocol", "must be TCP for http rules")
    _port_given(entry, path)


def _dns(entry: PortProtocol, path: str) -> None:
    if (entry.protocol or "").upper() not in _DNS_PROTOCOLS:
        raise PolicyError(f"{path}.protocol", "must be TCP, UDP or ANY for dns rules")
    _port_given(entry, path)
    if entry.endPort:
        raise PolicyError(f"{path}.endPort", "is not possible with dns rules: write one entry per port")


def _port_given(entry: PortProtocol, path: str) -> None:
    if not entry.port or number(entry.port) == 0:
        raise PolicyError(f"{path}.port", "must be given for L7 rules")


def _server_names(rule: PortRule, l7: bool, path: str) -> None:
    for index, name in enumerate(rule.serverNames or ()):
        _dns_name(name, _PATTERN, f"{path}.serverNames[{index}]")
    if rule.serverNames and l7 and rule.terminatingTLS is None:
        raise PolicyError(
            f"{path}.serverNames", "needs terminatingTLS beside L7 rules: what is encrypted cannot be read"
        )


def _listener(rule: PortRule, l7: bool, section: str, path: str) -> None:
    if rule.listener is None:
        return
    if section != "egress":
        raise PolicyError(f"{path}.listener", "is for egress only")
    if l7:
        raise PolicyError(f"{path}.listener", "cannot be combined with L7 rules")
    priority = rule.listener.get("priority", 1)
    if type(priority) is not int or not 1 <= priority <= 100:
        raise PolicyError(f"{path}.listener.priority", f"{priority!r} is not between 1 and 100")

"""The parts of a rule beyond L4: L7 rules, TLS, listeners, DNS names, authentication.

In: elements of `toPorts`, `toFQDNs`, `authentication`. Out: the paths of what is there; nothing of it is enforced by
this version, and what it would filter stays closed. It is checked all the same: a mistake is told when it is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError, from_decoder
from cilium.sources.kubernetes.policies.ports import number
from cilium.sources.kubernetes.policies.wire import Element, FQDNSelector, HTTPRule, Listener, PortDenyRule, PortRule

_PARTS = ("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener")
_NAME = re.compile(r"([-a-zA-Z0-9_]+[.]?)+")
_PATTERN = re.compile(r"(\*\*\.)?([-a-zA-Z0-9_*]+[.]?)+")
_MODES = ("disabled", "required", "test-always-fail")
_MISMATCHES = ("", "LOG", "ADD", "DELETE", "REPLACE")
_KINDS = ("", "CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")
MAX_NAME = 255

T = TypeVar("T")


def beyond_l4(rule: PortRule | PortDenyRule, path: str, *, section: str) -> list[str]:
    """Paths of the parts of one entry of toPorts that need a proxy. Raises PolicyError for what is wrong in them."""
    if isinstance(rule, PortDenyRule):
        return []
    if rule.rules is not None:
        _rules(rule, path, section)
    if rule.serverNames is not None:
        _server_names(rule, path)
    if rule.listener is not None:
        _listener(rule.listener, path, section)
        if rule.rules:
            raise PolicyError(f"{path}.listener", "cannot be combined with rules: a listener has its own")
    parts = [f"{path}.{name}" for name in _PARTS if getattr(rule, name)]
    if rule.authentication is not None and authenticates(rule.authentication.mode, f"{path}.authentication.mode"):
        parts.append(f"{path}.authentication")
    return parts


def check_nodes(sections: Mapping[str, Sequence[Element]], path: str) -> None:
    """Of a rule about nodes: nothing above L4 but DNS on egress. Raises PolicyError."""
    for section, elements in sections.items():
        for position, element in enumerate(elements):
            for index, rule in enumerate(element.toPorts or ()):
                if isinstance(rule, PortRule) and "http" in (rule.rules or {}):
                    where = f"{path}.{section}[{position}].toPorts[{index}].rules.http"
                    raise PolicyError(where, "is not possible for nodes")


def authenticates(mode: str, path: str) -> bool:
    """Whether the peer would have to prove who it is. Raises PolicyError."""
    if mode not in _MODES:
        raise PolicyError(path, f"{mode!r} is not one of {', '.join(_MODES)}")
    return mode != "disabled"


def check_fqdn(selector: FQDNSelector, path: str) -> None:
    """One name or one pattern. Raises PolicyError."""
    if (selector.matchName is None) == (selector.matchPattern is None):
        raise PolicyError(path, "needs exactly one of matchName and matchPattern")
    if selector.matchName is not None:
        _dns(selector.matchName, _NAME, f"{path}.matchName", "a DNS name")
    else:
        _dns(selector.matchPattern or "", _PATTERN, f"{path}.matchPattern", "a DNS name with '*'")


def _dns(text: str, pattern: re.Pattern[str], path: str, expected: str) -> None:
    if len(text) > MAX_NAME:
        raise PolicyError(path, f"has {len(text)} characters, a DNS name has at most {MAX_NAME}")
    if not pattern.fullmatch(text):
        raise PolicyError(path, f"{text!r} is not {expected}")


def _rules(rule: PortRule, path: str, section: str) -> None:
    rules = rule.rules or {}
    for kind in rules:
        if kind not in {"http", "dns"}:
            raise PolicyError(f"{path}.rules.{kind}", "is not one of http, dns")
    if len(rules) > 1:
        raise PolicyError(f"{path}.rules", "names two L7 protocols on one port")
    if "dns" in rules and section == "ingress":
        raise PolicyError(f"{path}.rules.dns", "is for egress only")
    for index, entry in enumerate(rule.ports or ()):
        where = f"{path}.ports[{index}]"
        protocol = (entry.protocol or "").upper()
        if "http" in rules and protocol != "TCP":
            raise PolicyError(f"{where}.protocol", "must be TCP for http rules")
        if "dns" in rules and protocol not in {"", "ANY", "TCP", "UDP"}:
            raise PolicyError(f"{where}.protocol", "must be TCP, UDP or ANY for dns rules")
        if rules and (not entry.port or number(entry.port) == 0):
            raise PolicyError(f"{where}.port", "must be given for L7 rules")
        if "dns" in rules and entry.endPort:
            raise PolicyError(f"{where}.endPort", "cannot be given for dns rules")
    if rules and not rule.ports:
        raise PolicyError(f"{path}.ports", "must be given for L7 rules")
    for index, entry_of in enumerate(rules.get("http", ())):
        _http(_convert(entry_of, HTTPRule, f"{path}.rules.http[{index}]"), f"{path}.rules.http[{index}]")
    for index, entry_of in enumerate(rules.get("dns", ())):
        check_fqdn(_convert(entry_of, FQDNSelector, f"{path}.rules.dns[{index}]"), f"{path}.rules.dns[{index}]")


def _convert(raw: dict[str, object], kind: type[T], path: str) -> T:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        inner = from_decoder(error)
        raise PolicyError(path if inner.path == "object" else f"{path}.{inner.path}", inner.reason) from None


def _http(rule: HTTPRule, path: str) -> None:
    for name in ("path", "method", "host"):
        try:
            re.compile(getattr(rule, name))
        except re.error as error:
            raise PolicyError(f"{path}.{name}", f"is no regular expression: {error}") from None
    for index, match in enumerate(rule.headerMatches or ()):
        where = f"{path}.headerMatches[{index}]"
        if not match.name:
            raise PolicyError(f"{where}.name", "is empty")
        if match.mismatch not in _MISMATCHES:
            raise PolicyError(f"{where}.mismatch", f"{match.mismatch!r} is not one of LOG, ADD, DELETE, REPLACE")


def _server_names(rule: PortRule, path: str) -> None:
    if rule.rules and rule.terminatingTLS is None:
        raise PolicyError(
            f"{path}.serverNames", "needs terminatingTLS beside L7 rules: they are inside of the encryption"
        )
    for index, name in enumerate(rule.serverNames or ()):
        _dns(name, _PATTERN, f"{path}.serverNames[{index}]", "a server name")


def _listener(listener: Listener, path: str, section: str) -> None:
    if section == "ingress":
        raise PolicyError(f"{path}.listener", "is for egress only")
    if not listener.name:
        raise PolicyError(f"{path}.listener.name", "is empty")
    if not listener.envoyConfig.name:
        raise PolicyError(f"{path}.listener.envoyConfig.name", "is empty")
    if listener.envoyConfig.kind not in _KINDS:
        kinds = " or ".join(_KINDS[1:])
        raise PolicyError(f"{path}.listener.envoyConfig.kind", f"{listener.envoyConfig.kind!r} is not {kinds}")
    if listener.priority is not None and not 1 <= listener.priority <= 100:
        raise PolicyError(f"{path}.listener.priority", f"{listener.priority} is not between 1 and 100")

"""Checks of the settings of services, across them and against routing. In: typed settings. Out: findings."""

from __future__ import annotations

from collections.abc import Iterator

from cilium.settings.findings import Finding
from cilium.settings.model import Settings
from cilium.settings.network_groups import RoutingMode, TunnelProtocol
from cilium.settings.service_groups import DsrDispatch, LoadBalancerMode

TRANSLATED_PORTS = 61000
"""From here on connections that leave with the node's address have their source ports (bpf/config/node.h)."""


def services(settings: Settings) -> Iterator[Finding]:
    given = settings.services
    if not given.replacement:
        return
    if not given.socket:
        yield Finding(
            "bpf-lb-sock",
            "the node's own processes have services in their sockets only",
            "switch it on; {bpf-lb-sock-hostns-only} leaves the sockets of pods alone",
        )
    low, high = given.node_port_range
    if not 1 <= low <= high <= 65535:
        yield Finding("node-port-range", f"{low} to {high} is no range of ports", "write the lower port first")
    elif high >= TRANSLATED_PORTS:
        yield Finding(
            "node-port-range",
            f"{low} to {high} reaches into the ports of translated connections, {TRANSLATED_PORTS} to 65535",
            f"end it below {TRANSLATED_PORTS}",
        )
    if given.uses_dsr:
        yield from _direct_return(settings)


def _direct_return(settings: Settings) -> Iterator[Finding]:
    """Which dispatch goes with which routing. IP options are lost in a tunnel, and VXLAN has no room for any.

    A remedy names every setting that it takes, so that nobody is sent from one error to the next.
    """
    given, routing = settings.services, settings.routing
    tunnelled = routing.mode is RoutingMode.TUNNEL
    by_geneve = routing.tunnel_protocol is TunnelProtocol.GENEVE
    asked = ["bpf-lb-mode"] if given.mode is not LoadBalancerMode.SNAT else []
    asked += ["bpf-lb-mode-annotation"] if given.mode_annotation else []
    if given.dsr_dispatch is DsrDispatch.OPTION:
        if tunnelled:
            first, *rest = asked
            also = "".join(f" and {{{key}}}" for key in rest)
            geneve = "{bpf-lb-dsr-dispatch} to geneve" + ("" if by_geneve else " and {tunnel-protocol} to geneve")
            yield Finding(
                first,
                "direct server return by IP option ({bpf-lb-dsr-dispatch}: opt) is lost in a tunnel ({routing-mode}: "
                "tunnel)",
                f"set {geneve}, or {_native(settings)}, or let this{also} go back to the default",
            )
        return
    needed = [] if by_geneve else ["{tunnel-protocol} to geneve"]
    if not tunnelled:
        needed = ["{routing-mode} to tunnel", *needed]
        message = "direct server return by Geneve needs the tunnel, which native routing does not use"
        option = f"this to opt{_without_tunnel(settings)}"
    elif not by_geneve:
        message = f"direct server return by Geneve cannot use {{tunnel-protocol}} {routing.tunnel_protocol.value}"
        option = f"this to opt and {_native(settings)}"
    else:
        return
    yield Finding("bpf-lb-dsr-dispatch", message, f"set {' and '.join(needed)}, or {option}")


def _native(settings: Settings) -> str:
    """What makes routing native; masquerading needs a CIDR then."""
    routing = settings.routing
    words = "{routing-mode} to native"
    masquerading = settings.masquerade_ipv4 or settings.masquerade_ipv6
    if masquerading and not (routing.native_ipv4 or routing.native_ipv6):
        family = "ipv4" if settings.families.ipv4 else "ipv6"
        words += f" and {{{family}-native-routing-cidr}} to the pods' CIDR"
    return words + _without_tunnel(settings)


def _without_tunnel(settings: Settings) -> str:
    """What native routing without Geneve would have no use for."""
    given = " and ".join(f"{{{key}}}" for key, _ in _of_tunnels(settings))
    return f" without {given}" if given else ""


def _of_tunnels(settings: Settings) -> Iterator[tuple[str, str]]:
    """Settings of tunnels that somebody chose: key and value."""
    routing = settings.routing
    if routing.tunnel_protocol is not TunnelProtocol.VXLAN:
        yield "tunnel-protocol", routing.tunnel_protocol.value
    if routing.tunnel_port:
        yield "tunnel-port", str(routing.tunnel_port)


def tunnel(settings: Settings) -> Iterator[Finding]:
    """Native routing has no tunnel; where Geneve is to dispatch over it, that has been said."""
    routing, given = settings.routing, settings.services
    by_geneve = given.replacement and given.uses_dsr and given.dsr_dispatch is DsrDispatch.GENEVE
    if routing.mode is RoutingMode.TUNNEL or by_geneve:
        return
    for key, text in _of_tunnels(settings):
        yield Finding(
            key,
            f"'{text}' has no effect while {{routing-mode}} is {routing.mode.value}",
            "remove it or set {routing-mode} to tunnel",
        )

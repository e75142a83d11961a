"""Checks of the settings of services, across them and against routing. In: typed settings. Out: findings."""

from __future__ import annotations

from collections.abc import Iterator

from cilium.settings.findings import Finding
from cilium.settings.model import Settings
from cilium.settings.network_groups import RoutingMode, TunnelProtocol
from cilium.settings.service_groups import DsrDispatch

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
    """Which dispatch goes with which routing. IP options are lost in a tunnel, and VXLAN has no room for any."""
    given, routing = settings.services, settings.routing
    tunnelled = routing.mode is RoutingMode.TUNNEL
    asked = "bpf-lb-mode-annotation" if given.mode_annotation else "bpf-lb-mode"
    if given.dsr_dispatch is DsrDispatch.OPTION:
        if tunnelled:
            yield Finding(
                "bpf-lb-dsr-dispatch",
                "direct server return by IP option needs native routing",
                f"set {{routing-mode}} to native, or this to geneve, or let {{{asked}}} go back to its default",
            )
    elif not tunnelled:
        yield Finding(
            "bpf-lb-dsr-dispatch",
            "direct server return by Geneve needs the tunnel, which native routing does not use",
            "set this to opt, or {routing-mode} to tunnel",
        )
    elif routing.tunnel_protocol is not TunnelProtocol.GENEVE:
        yield Finding(
            "bpf-lb-dsr-dispatch",
            f"direct server return by Geneve cannot use {routing.tunnel_protocol.value}",
            "set {tunnel-protocol} to geneve, or this to opt with native routing",
        )


def tunnel(settings: Settings) -> Iterator[Finding]:
    """With native routing only direct server return by Geneve has a tunnel."""
    routing, given = settings.routing, settings.services
    by_geneve = given.replacement and given.uses_dsr and given.dsr_dispatch is DsrDispatch.GENEVE
    if routing.mode is RoutingMode.TUNNEL or by_geneve:
        return
    for key, changed, text in (
        ("tunnel-protocol", routing.tunnel_protocol is not TunnelProtocol.VXLAN, routing.tunnel_protocol.value),
        ("tunnel-port", routing.tunnel_port != 0, str(routing.tunnel_port)),
    ):
        if changed:
            yield Finding(
                key,
                f"'{text}' has no effect while {{routing-mode}} is {routing.mode.value}",
                "remove it or set {routing-mode} to tunnel",
            )

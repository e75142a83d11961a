"""The part of `cilium-dbg status` about services: what is on, and everything that is wrong.

In: settings and tables. Out: a document; its names are upstream's where it has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cilium.features.programs.rows import XdpDevice
from cilium.settings import Acceleration, DsrDispatch, LoadBalancerAlgorithm
from cilium.settings.service_groups import ServiceSettings
from cilium.sources.kubernetes.decoders import service_annotations
from cilium.tables.devices import Device
from cilium.tables.problems import Problem
from cilium.tables.services import Frontend

Document = dict[str, Any]
NOWHERE = "none"
"""The mode of a device that runs no XDP although it should."""


def services(
    settings: ServiceSettings,
    *,
    devices: Iterable[Device],
    xdp: Iterable[XdpDevice],
    frontends: Iterable[Frontend],
    problems: Iterable[Problem],
) -> Document:
    if not settings.replacement:
        return {"mode": "False", "msg": "False"}
    rows = list(frontends)
    backends = {(end.address, end.port, row.protocol) for row in rows for end in row.backends}
    found = sorted(map(str, problems))
    accelerated = settings.acceleration is not Acceleration.DISABLED
    listed = device_list(devices, {row.device: row.mode for row in xdp}, accelerated=accelerated)
    counts = f"{len(rows)} frontends, {len(backends)} backends"
    return {
        "mode": "True",
        "devices": [device["name"] for device in listed],
        "deviceList": listed,
        "features": features(settings),
        "frontends": len(rows),
        "backends": len(backends),
        "problems": found,
        "msg": f"True   [{'; '.join((_devices(listed), _how(settings, listed), counts, *_count(found)))}]",
    }


def device_list(devices: Iterable[Device], xdp: Mapping[str, str], *, accelerated: bool) -> list[Document]:
    """Those on which clients outside are served; `xdp`: the mode of those that run it. The others, `none`: they
    refused, which is among the errors, or are not there yet.
    """
    chosen = sorted((row for row in devices if row.selected), key=lambda row: row.name)
    return [
        {
            "name": row.name,
            "ip": [str(each.ip) for each in row.addresses if not each.ip.is_link_local],
            **({"xdp": xdp.get(row.name, NOWHERE)} if accelerated else {}),
        }
        for row in chosen
    ]


def features(settings: ServiceSettings) -> Mapping[str, Document]:
    low, high = settings.node_port_range
    node_port: Document = {
        "enabled": settings.node_port,
        "mode": settings.mode.value.upper() if settings.mode.value != "hybrid" else "Hybrid",
        "algorithm": settings.algorithm.value.capitalize(),
        "acceleration": {Acceleration.BEST_EFFORT: "Best-Effort"}.get(
            settings.acceleration, settings.acceleration.value.capitalize()
        ),
        "portMin": low,
        "portMax": high,
    }
    if settings.algorithm is LoadBalancerAlgorithm.MAGLEV or settings.algorithm_annotation:
        node_port["lutSize"] = settings.maglev_table_size
    if settings.uses_dsr:
        option = settings.dsr_dispatch is DsrDispatch.OPTION
        node_port["dsrMode"] = "IP Option/Extension" if option else "Geneve"
    if settings.node_port_addresses:
        node_port["addresses"] = [str(network) for network in settings.node_port_addresses]
    return {
        "socketLB": {"enabled": settings.socket, "coverage": "Hostns-only" if settings.socket_host_only else "Full"},
        "terminateSockets": {"enabled": settings.terminate_sockets},
        "nodePort": node_port,
        "loadBalancer": {"enabled": settings.node_port},
        "externalIPs": {"enabled": settings.external_ips},
        "hostPort": {"enabled": settings.host_port},
        "sessionAffinity": {"enabled": settings.affinity},
        "gracefulTermination": {"enabled": True},
        "externalClusterIP": {"enabled": settings.external_cluster_ip},
        "sourceRanges": {"enabled": settings.source_range_check, "allTypes": settings.source_range_all_types},
        "topology": {"enabled": settings.topology},
        "healthCheckNodePort": {"enabled": settings.health_check_node_port},
        "bindProtection": {"enabled": settings.bind_protection},
        "localRedirectPolicy": {"enabled": settings.local_redirect},
        "sctp": {"enabled": settings.sctp},
        "noBackendResponse": {"response": settings.no_backend_response.value},
        "annotations": {"names": annotation_names(settings)},
    }


def annotation_names(settings: ServiceSettings) -> list[str]:
    """Those that are read."""
    names = [service_annotations.NODE, service_annotations.NODE_SELECTOR, service_annotations.TYPE]
    for name, on in (
        (service_annotations.ALGORITHM, settings.algorithm_annotation),
        (service_annotations.FORWARDING, settings.mode_annotation),
        (service_annotations.RANGES_POLICY, settings.source_range_check),
        (service_annotations.TOPOLOGY_MODE, settings.topology),
    ):
        names += [name] if on else []
    return sorted([*names, service_annotations.WEIGHT])


def _devices(listed: Iterable[Document]) -> str:
    return ", ".join(map(_device, listed)) or "no devices"


def _device(device: Mapping[str, Any]) -> str:
    words = " ".join((device["name"], *device["ip"]))
    return f"{words} (XDP {device['xdp']})" if "xdp" in device else words


def _how(settings: ServiceSettings, listed: Sequence[Document]) -> str:
    port = features(settings)["nodePort"]
    words = f"{port['mode']}, {port['algorithm']}"
    if settings.acceleration is Acceleration.DISABLED:
        return words
    running = sum(device["xdp"] != NOWHERE for device in listed)
    where = "" if running == len(listed) else f" on {running} of {len(listed)} devices"
    return f"{words}, XDP {port['acceleration']}{where}"


def _count(found: list[str]) -> list[str]:
    return [f"{len(found)} problem{'s' if len(found) > 1 else ''}"] if found else []

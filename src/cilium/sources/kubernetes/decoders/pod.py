"""Pod of core/v1, and the workload people think of when they see it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from cilium.sources.kubernetes.decoders.wire import Metadata, Raw, addresses
from cilium.tables.kubernetes import HostPort, NamedPort, Pod

TEMPLATE_HASH = "pod-template-hash"
SCHEDULED_JOB = re.compile(r"(?P<cronjob>.+)-\d{8,10}")
"""A Job of a CronJob is named after it and the minute (or second) it was scheduled for."""


class _Port(msgspec.Struct, rename="camel"):
    container_port: int = 0
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")


class _Container(msgspec.Struct, rename="camel"):
    ports: list[_Port] | None = None
    restart_policy: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    service_account_name: str = ""
    host_network: bool = False
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None


class _PodIP(msgspec.Struct):
    ip: str = ""


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _Status(msgspec.Struct):
    phase: str = ""
    conditions: list[_Condition] | None = None
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[_PodIP] | None = msgspec.field(default=None, name="podIPs")


class _Pod(msgspec.Struct):
    metadata: Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


_decoder = msgspec.json.Decoder(_Pod)


def decode_pod(raw: Raw) -> Pod:
    pod = _decoder.decode(raw)
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    kind, name = workload(metadata)
    host_ports = () if spec.host_network else _host_ports(spec)
    return Pod(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        node=spec.node_name,
        labels=metadata.labels or {},
        annotations=metadata.annotations or {},
        service_account=spec.service_account_name or "default",
        host_network=spec.host_network,
        phase=status.phase,
        ips=addresses([entry.ip for entry in status.pod_ips or ()] or [status.pod_ip], "status.podIPs"),
        named_ports=_named_ports(spec),
        workload_kind=kind,
        workload_name=name,
        deleting=metadata.deletion_timestamp is not None,
        ready=any(entry.type == "Ready" and entry.status == "True" for entry in status.conditions or ()),
        host_ports=host_ports,
        created=(metadata.creation_timestamp or "") if host_ports else "",
    )


def workload(metadata: Metadata) -> tuple[str, str]:
    """(kind, name) of the controller; a ReplicaSet stands for its Deployment, a scheduled Job for its CronJob.

    A pod without a controller is its own workload.
    """
    owner = next((owner for owner in metadata.owner_references or () if owner.controller), None)
    if owner is None:
        return "Pod", metadata.name
    suffix = f"-{(metadata.labels or {}).get(TEMPLATE_HASH)}"
    if owner.kind == "ReplicaSet" and owner.name.endswith(suffix):
        return "Deployment", owner.name.removesuffix(suffix)
    scheduled = SCHEDULED_JOB.fullmatch(owner.name) if owner.kind == "Job" else None
    if scheduled is not None:
        return "CronJob", scheduled["cronjob"]
    return owner.kind, owner.name


def _ports(spec: _Spec) -> Iterator[_Port]:
    """Ports of containers that run as long as the pod does; an init container that restarts always is one."""
    sidecars = [entry for entry in spec.init_containers or () if entry.restart_policy == "Always"]
    for container in [*(spec.containers or ()), *sidecars]:
        yield from container.ports or ()


def _named_ports(spec: _Spec) -> tuple[NamedPort, ...]:
    return tuple(NamedPort(port.name, port.container_port, port.protocol) for port in _ports(spec) if port.name)


def _host_ports(spec: _Spec) -> tuple[HostPort, ...]:
    return tuple(
        HostPort(port.host_port, port.container_port, port.protocol, port.host_ip)
        for port in _ports(spec)
        if port.host_port
    )

"""Which addresses and ports a Service stands for: pure functions shared by EndpointSlices and Endpoints.

In: a Service and the pods it selects. Out: `Backend` rows, grouped by the ports that the pods have under the Service's
names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kubelab.apiserver.selectors import LabelSelector, from_spec
from kubelab.controllers import objects
from kubelab.controllers.objects import Object


@dataclass(frozen=True, order=True)
class Port:
    """A port as the pod has it."""

    name: str
    protocol: str
    number: int
    app_protocol: str = ""


@dataclass(frozen=True, order=True)
class Backend:
    """One pod address of one family. `family` is IPv4 or IPv6."""

    family: str
    address: str
    ports: tuple[Port, ...]
    pod: str
    uid: str
    node: str
    ready: bool
    serving: bool
    terminating: bool
    hostname: str = ""


def selector_of(service: Object) -> LabelSelector | None:
    """None for Services without a selector: their addresses are somebody else's."""
    selector = service["spec"].get("selector")
    if not selector or service["spec"].get("type") == "ExternalName":
        return None
    return from_spec({"matchLabels": selector})


def target_port(service_port: Object, pod: Object) -> int | None:
    """The pod's port for a Service's port; None when the pod has no port of that name."""
    target = service_port.get("targetPort") or service_port["port"]
    if isinstance(target, int):
        return target
    protocol = service_port.get("protocol", "TCP")
    for container in pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == target and port.get("protocol", "TCP") == protocol:
                return int(port["containerPort"])
    return int(target) if str(target).isdecimal() else None


def ports_of(service: Object, pod: Object) -> tuple[Port, ...]:
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is not None:
            found.append(Port(port.get("name", ""), port.get("protocol", "TCP"), number, port.get("appProtocol", "")))
    return tuple(found)


def families_of(service: Object) -> tuple[str, ...]:
    return tuple(service["spec"].get("ipFamilies") or ("IPv4",))


def addresses_of(pod: Object) -> Iterable[tuple[str, str]]:
    status = pod.get("status") or {}
    texts = [entry["ip"] for entry in status.get("podIPs") or ()] or [status.get("podIP", "")]
    for text in filter(None, texts):
        yield "IPv6" if ":" in text else "IPv4", text


def backends_of(service: Object, pods: Iterable[Object]) -> list[Backend]:
    """Every address of every selected pod that runs, in the Service's families. Finished pods have none."""
    families, publish = families_of(service), bool(service["spec"].get("publishNotReadyAddresses"))
    found = []
    for pod in pods:
        if objects.is_finished(pod) or not (pod.get("spec") or {}).get("nodeName"):
            continue
        serving, terminating = objects.is_ready(pod), objects.is_deleting(pod)
        subdomain = pod["spec"].get("subdomain") == service["metadata"]["name"]
        for family, address in addresses_of(pod):
            if family in families:
                found.append(
                    Backend(
                        family=family,
                        address=address,
                        ports=ports_of(service, pod),
                        pod=pod["metadata"]["name"],
                        uid=objects.uid_of(pod),
                        node=pod["spec"]["nodeName"],
                        ready=publish or (serving and not terminating),
                        serving=serving,
                        terminating=terminating,
                        hostname=pod["spec"].get("hostname", "") if subdomain else "",
                    )
                )
    return sorted(found)

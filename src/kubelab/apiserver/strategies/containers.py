"""Containers: their defaults, and what they must say.

Owns: everything below `containers`, `initContainers` and `ephemeralContainers` of a pod spec. Comes in: container
structs, the names of the pod's volumes. Goes out: the same structs with defaults, or causes.
Source: Kubernetes API reference, Container v1.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import duplicate, invalid_value, required, unsupported
from kubelab.quantities import quantity

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PROBE_DEFAULTS = (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3))
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_POSITIVE = "must be greater than 0"
_NOT_NEGATIVE = "must be greater than or equal to 0"


def default_container(container: Object, *, host_network: bool) -> None:
    image = str(container.get("image", ""))
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for name in PROBES:
        probe = container.get(name)
        if isinstance(probe, dict):
            for field, value in _PROBE_DEFAULTS:
                probe[field] = probe.get(field) or value
            _default_handler(probe)
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict):
            _default_handler(hook)
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if isinstance(source.get("fieldRef"), dict):
            source["fieldRef"].setdefault("apiVersion", "v1")
        if isinstance(source.get("resourceFieldRef"), dict):
            source["resourceFieldRef"].setdefault("divisor", "0")


def _default_handler(handler: Object) -> None:
    if isinstance(handler.get("httpGet"), dict):
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")
    if isinstance(handler.get("grpc"), dict):
        handler["grpc"].setdefault("service", "")


def default_requests(spec: Object) -> None:
    """A pod (not a template) asks for what it is limited to, where it says nothing else."""
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            resources = container.get("resources")
            if isinstance(resources, dict) and resources.get("limits"):
                resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def container_causes(container: Object, path: str, volumes: set[str], *, host_network: bool) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not name:
        yield required(f"{path}.name")
    else:
        yield from (invalid_value(f"{path}.name", name, why) for why in names.label(name))
    image = container.get("image")
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in _PULL:
        yield unsupported(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL)
    yield from _port_causes(container.get("ports") or (), f"{path}.ports", host_network=host_network)
    yield from _variable_causes(container.get("env") or (), f"{path}.env")
    yield from _mount_causes(container.get("volumeMounts") or (), f"{path}.volumeMounts", volumes)
    yield from resource_causes(container.get("resources") or {}, f"{path}.resources")
    for kind in PROBES:
        if isinstance(container.get(kind), dict):
            yield from _probe_causes(container[kind], f"{path}.{kind}", once=kind != "readinessProbe")
    for kind, hook in (container.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            yield from _handler_causes(hook, f"{path}.lifecycle.{kind}", ("exec", "httpGet", "sleep", "tcpSocket"))


def _port_causes(ports: Any, path: str, *, host_network: bool) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"{path}[{index}]", port.get("name")
        if name:
            yield from (invalid_value(f"{where}.name", name, why) for why in names.port_name(name))
            if name in seen:
                yield duplicate(f"{where}.name", name)
            seen.add(name)
        for field in ("containerPort", "hostPort"):
            value = port.get(field)
            if value is not None and not 0 < value < 65536:
                yield invalid_value(f"{where}.{field}", value, "must be between 1 and 65535, inclusive")
        if port.get("protocol") not in _PROTOCOLS:
            yield unsupported(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)
        if host_network and port.get("hostPort") != port.get("containerPort"):
            yield invalid_value(
                f"{where}.hostPort", port.get("hostPort"), "must match `containerPort` when `hostNetwork` is true"
            )


def host_port_causes(containers: Any, path: str) -> Iterator[Cause]:
    """Two containers of one pod cannot have one port of the node."""
    seen = set()
    for index, container in enumerate(containers or ()):
        for place, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            shown = f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if shown in seen:
                yield duplicate(f"{path}[{index}].ports[{place}].hostPort", shown)
            seen.add(shown)


def _variable_causes(variables: Any, path: str) -> Iterator[Cause]:
    for index, variable in enumerate(variables):
        where, name = f"{path}[{index}]", variable.get("name")
        if name:  # That it is there is said by the schema.
            yield from (invalid_value(f"{where}.name", name, why) for why in names.variable(name))
        source = variable.get("valueFrom")
        if isinstance(source, dict):
            given = [kind for kind in _SOURCES if kind in source]
            if not given:
                yield invalid_value(
                    f"{where}.valueFrom", "", f"must specify one of: {', '.join(f'`{k}`' for k in _SOURCES)}"
                )
            elif variable.get("value"):
                yield invalid_value(f"{where}.valueFrom", "", "may not be specified when `value` is not empty")
            elif len(given) > 1:
                yield invalid_value(f"{where}.valueFrom", "", "may not have more than one field specified at a time")


def _mount_causes(mounts: Any, path: str, volumes: set[str]) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        where, target = f"{path}[{index}]", mount.get("mountPath")
        if mount.get("name") and mount["name"] not in volumes:
            yield Cause(f"{where}.name", "FieldValueNotFound", f'Not found: "{mount["name"]}"')
        if target in seen:
            yield invalid_value(f"{where}.mountPath", target, "must be unique")
        seen.add(str(target))
        if ".." in str(mount.get("subPath") or "").split("/"):
            yield invalid_value(f"{where}.subPath", mount["subPath"], "must not contain '..'")
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield invalid_value(
                f"{where}.subPathExpr", mount["subPathExpr"], "subPathExpr and subPath are mutually exclusive"
            )


def resource_causes(resources: Object, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            yield from (invalid_value(f"{path}.{kind}", name, why) for why in names.qualified(name))
            if (number := _quantity(amount)) is not None and number < 0:
                yield invalid_value(f"{path}.{kind}[{name}]", str(amount), _NOT_NEGATIVE)
    for name, amount in requests.items():
        asked, most = _quantity(amount), _quantity(limits[name]) if name in limits else None
        if asked is None or most is None:
            continue
        if asked > most:
            why = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.requests", str(amount), why)
        elif "/" in name and asked != most:
            why = f"must be equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.requests", str(amount), why)


def _quantity(value: Any) -> Decimal | None:
    """None for what is none (the decoder refused it)."""
    try:
        return quantity(value)
    except ValueError:
        return None


def _probe_causes(probe: Object, path: str, *, once: bool) -> Iterator[Cause]:
    yield from _handler_causes(probe, path, _HANDLERS)
    for field in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if (probe.get(field) or 0) < 0:
            yield invalid_value(f"{path}.{field}", probe[field], _NOT_NEGATIVE)
    if once and probe.get("successThreshold") not in (None, 1):
        yield invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, _POSITIVE)
    if grace is not None and not once:
        why = "must not be set for readinessProbes"
        yield invalid_value(f"{path}.terminationGracePeriodSeconds", grace, why)


def _handler_causes(handler: Object, path: str, kinds: tuple[str, ...]) -> Iterator[Cause]:
    given = [kind for kind in kinds if kind in handler]
    if not given:
        yield required(path, "must specify a handler type")
    for kind in given[1:]:
        yield Cause(f"{path}.{kind}", "FieldValueForbidden", "Forbidden: may not specify more than 1 handler type")
    for kind in ("httpGet", "tcpSocket", "grpc"):
        port = (handler.get(kind) or {}).get("port")
        if isinstance(port, int) and not 0 < port < 65536:
            yield invalid_value(f"{path}.{kind}.port", port, "must be between 1 and 65535, inclusive")
        elif isinstance(port, str):
            yield from (invalid_value(f"{path}.{kind}.port", port, why) for why in names.port_name(port))
    if isinstance(handler.get("exec"), dict) and not handler["exec"].get("command"):
        yield required(f"{path}.exec.command")

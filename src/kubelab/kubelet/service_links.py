"""Variables that name Services, as containers get them besides cluster DNS (``enableServiceLinks``).

In: the Services of a pod's namespace. Out: variables by name: NAME_SERVICE_HOST, NAME_SERVICE_PORT, Docker's links.
Source: Kubernetes documentation, "Service", environment variables.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubelab.kubelet.config import Object


def variables(services: Iterable[Object]) -> dict[str, str]:
    """Of Services with a cluster IP; of those with ports of the same number and protocol the last one stands."""
    found: dict[str, str] = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP") or "None", service["spec"].get("ports") or []
        if address == "None" or not ports:
            continue
        prefix = _name(service["metadata"]["name"])
        found |= {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
        for port in ports:
            if port.get("name"):
                found[f"{prefix}_SERVICE_PORT_{_name(port['name'])}"] = str(port["port"])
        found[f"{prefix}_PORT"] = _link(address, ports[0])
        for port in ports:
            link = f"{prefix}_PORT_{port['port']}_{port.get('protocol', 'TCP')}"
            found |= {
                link: _link(address, port),
                f"{link}_PROTO": port.get("protocol", "TCP").lower(),
                f"{link}_PORT": str(port["port"]),
                f"{link}_ADDR": address,
            }
    return found


def _name(text: str) -> str:
    return text.upper().replace("-", "_")


def _link(address: str, port: Object) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{port.get('protocol', 'TCP').lower()}://{host}:{port['port']}"

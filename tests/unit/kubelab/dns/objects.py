"""Objects of an API server, as short as a test wants them."""

from typing import Any

Object = dict[str, Any]


def service(name: str, *ips: str, namespace: str = "shop", external: str = "", **ports: str) -> Object:
    """`http="80/TCP"` is a port; no address: headless."""
    spec: Object = {"type": "ClusterIP", "clusterIPs": list(ips) or ["None"]}
    if external:
        spec = {"type": "ExternalName", "externalName": external}
    spec["ports"] = [
        {"name": key, "port": int(text.partition("/")[0]), "protocol": text.partition("/")[2] or "TCP"}
        for key, text in ports.items()
    ]
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


def endpoint(address: str, *, ready: bool | None = None, hostname: str = "", pod: str = "") -> Object:
    entry: Object = {"addresses": [address], "conditions": {} if ready is None else {"ready": ready}}
    if hostname:
        entry["hostname"] = hostname
    if pod:
        entry["targetRef"] = {"kind": "Pod", "name": pod}
    return entry


def endpoint_slice(name: str, of: str, *entries: Object, namespace: str = "shop", **ports: str) -> Object:
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv6" if entries and ":" in entries[0]["addresses"][0] else "IPv4",
        "endpoints": list(entries),
        "ports": [
            {"name": key, "port": int(text.partition("/")[0]), "protocol": text.partition("/")[2] or "TCP"}
            for key, text in ports.items()
        ],
    }


def namespace(name: str) -> Object:
    return {"metadata": {"name": name}}


def pod(name: str, *ips: str, namespace: str = "shop") -> Object:
    return {"metadata": {"namespace": namespace, "name": name}, "status": {"podIPs": [{"ip": ip} for ip in ips]}}

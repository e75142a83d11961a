"""cilium-dbg status."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.dbg.client import get, print_json

SECTIONS = (
    ("kube-proxy-replacement", "KubeProxyReplacement"),
    ("host-firewall", "Host firewall"),
    ("ipam", "IPAM"),
    ("routing", "Routing"),
    ("masquerading", "Masquerading"),
    ("encryption", "Encryption"),
    ("policy", "Policy"),
    ("hubble", "Hubble"),
    ("cluster", "Cluster health"),
)

SHOWN = 5
"""Problems of services; the verbose status has them all."""


@click.command()
@click.option("--all-addresses", is_flag=True, help="Every allocated address with its owner.")
@click.option("--verbose", is_flag=True, help="Also services, addresses, nodes, controllers and tables.")
@click.option("--brief", is_flag=True, help="One word.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status(all_addresses: bool, verbose: bool, brief: bool, output: str) -> None:
    """How the agent does."""
    document = get("/healthz")
    if output == "json":
        print_json(document)
    elif brief:
        click.echo(document["cilium"]["state"].upper())
    else:
        click.echo("\n".join(text(document, all_addresses=all_addresses, verbose=verbose)))
    if document["cilium"]["state"] == "Failure":
        sys.exit(1)


def text(document: dict[str, Any], *, all_addresses: bool = False, verbose: bool = False) -> Iterable[str]:
    """The lines; parts that an agent that is starting does not have yet are left out."""
    for name, value in lines(document):
        yield f"{name + ':' if name else '':<24}{value}".rstrip()
    controllers, errors = document["controllers"], document["errors"]
    healthy = sum(not controller["status"]["last-failure-msg"] for controller in controllers)
    yield f"{'Controllers:':<24}{healthy}/{len(controllers)} healthy"
    yield f"{'Errors:':<24}{len(errors) or 'none'}"
    yield from (f"  {error}" for error in errors)
    if (all_addresses or verbose) and "ipam" in document:
        yield from ("", "Allocated addresses:")
        yield from (f"  {address} ({owner})" for address, owner in document["ipam"]["allocations"].items())
    if verbose:
        yield from _services(document.get("kube-proxy-replacement", {}))
        yield from _nodes(document.get("cluster", {}).get("health", {}))
        yield from _controllers(document)
        rows = sorted(document["tables"].items())
        yield from _block("Tables", columns(("NAME", "ROWS"), rows))


def lines(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
    kubernetes = document.get("kubernetes", {})
    yield "Kubernetes", f"{kubernetes.get('state', 'Unknown')}   {kubernetes.get('msg', '')}".rstrip()
    for refused in kubernetes.get("quarantine", ()):
        yield "", f"not understood: {refused}"
    yield "Cilium", f"{document['cilium']['state']}   {document['cilium']['msg']}"
    for key, title in SECTIONS:
        if key in document:
            yield title, str(document[key].get("msg", document[key]))
        if key == "kube-proxy-replacement":
            yield from (("", problem) for problem in _some(document.get(key, {}).get("problems", [])))


def _some(problems: list[str]) -> list[str]:
    rest = len(problems) - SHOWN
    return problems[:SHOWN] + ([f"{rest} more: cilium-dbg status --verbose"] if rest > 0 else [])


def _services(section: dict[str, Any]) -> Iterable[str]:
    """What of services is on, and all that is wrong with them."""
    if section.get("mode") != "True":
        return
    features = section["features"]
    port = features["nodePort"]
    size = f" (Table Size: {port['lutSize']})" if "lutSize" in port else ""
    addresses = f", Addresses: {', '.join(port['addresses'])}" if "addresses" in port else ""
    how = f"{port['mode']} (DSR Dispatch: {port['dsrMode']})" if "dsrMode" in port else port["mode"]
    names = features["annotations"]["names"]
    rows = [
        ("Status", section["mode"]),
        ("Socket LB", _enabled(features, "socketLB")),
        ("Socket LB Coverage", features["socketLB"]["coverage"]),
        ("Devices", ", ".join(map(_device, section["deviceList"])) or "none"),
        ("Mode", how),
        ("Backend Selection", port["algorithm"] + size),
        ("XDP Acceleration", port["acceleration"]),
        ("Session Affinity", _enabled(features, "sessionAffinity")),
        ("Graceful Termination", _enabled(features, "gracefulTermination")),
        ("Source Ranges", _enabled(features, "sourceRanges")),
        ("Topology Hints", _enabled(features, "topology")),
        ("Local Redirect Policy", _enabled(features, "localRedirectPolicy")),
        ("SCTP", _enabled(features, "sctp")),
        ("No Backend", features["noBackendResponse"]["response"]),
        ("ClusterIP", "Enabled" + (", also from outside" if features["externalClusterIP"]["enabled"] else "")),
        ("NodePort", f"{_enabled(features, 'nodePort')} (Range: {port['portMin']}-{port['portMax']}{addresses})"),
        ("LoadBalancer", _enabled(features, "loadBalancer")),
        ("External IPs", _enabled(features, "externalIPs")),
        ("HostPort", _enabled(features, "hostPort")),
        ("Annotations", ", ".join(names)),
    ]
    yield from ("", "KubeProxyReplacement details:")
    yield from (f"  {name + ':':<24}{value}" for name, value in rows)
    yield f"  {'Problems:':<24}{len(section['problems']) or 'none'}"
    yield from (f"    {problem}" for problem in section["problems"])


def _device(device: dict[str, Any]) -> str:
    words = " ".join((device["name"], *device["ip"]))
    return f"{words} (XDP {device['xdp']})" if "xdp" in device else words


def _enabled(features: dict[str, Any], name: str) -> str:
    return "Enabled" if features[name]["enabled"] else "Disabled"


def _nodes(health: dict[str, Any]) -> Iterable[str]:
    """Who answers, and how fast; the first failure of a node explains it."""
    if not health.get("nodes"):
        return
    rows = []
    for node in health["nodes"]:
        name = node["name"] + (" (localhost)" if node["name"] == health["local"] else "")
        for kind, answers in (("host", node["host"]), ("endpoint", node["health-endpoint"])):
            for answer in answers:
                latency = f"{answer['latency'] * 1000:.1f} ms" if answer["ok"] else "-"
                verdict = "reachable" if answer["ok"] else answer["status"]
                rows.append((name, kind, answer["ip"], latency, answer["last-probed"], verdict))
    yield from _block("Nodes", columns(("NAME", "KIND", "ADDRESS", "LATENCY", "ASKED", "RESULT"), rows))


def _controllers(document: dict[str, Any]) -> Iterable[str]:
    states = {reconciler["name"]: reconciler for reconciler in document["reconcilers"]}
    rows = []
    for controller in document["controllers"]:
        state, counts = states[controller["name"]], controller["status"]
        held = ", ".join(f"{count} {kind}" for kind, count in sorted(state["rows"].items())) or "empty"
        last = counts["last-failure-msg"] or "-"
        pruned = "yes" if state["pruned"] else "not yet"
        rows.append((controller["name"], held, counts["success-count"], counts["failure-count"], pruned, last))
    header = ("NAME", "ROWS", "SUCCEEDED", "FAILED", "PRUNED", "LAST ERROR")
    yield from _block("Controllers", columns(header, rows))


def _block(title: str, table: str) -> Iterable[str]:
    yield from ("", f"{title}:")
    yield from (f"  {line}" for line in table.splitlines())

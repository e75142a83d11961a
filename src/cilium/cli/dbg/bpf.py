"""cilium-dbg bpf …: the pinned maps of this node as the kernel holds them, with or without an agent."""

from __future__ import annotations

import time
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

import click

from cilium.cli.dbg.policy_view import header, policies
from cilium.cli.dbg.records import PROTOCOLS, address, entries, flag_names, network
from cilium.cli.dbg.render import output, show


@click.group()
def bpf() -> None:
    """BPF maps of this node."""


IPCACHE = ("IP", "IDENTITY", "TUNNEL ENDPOINT", "ENCRYPT KEY", "FLAGS")


@bpf.group()
def ipcache() -> None:
    """cilium_ipcache, cilium_ipcache_cidr."""


@ipcache.command("list")
@output
def ipcache_list(output: str) -> None:
    """Address to identity and node."""
    show(output, IPCACHE, _ipcache_rows())


def ipcache_rows() -> list[dict[str, Any]]:
    """The map as documents, addresses as prefixes."""
    names = [name.lower().replace(" ", "-") for name in IPCACHE]
    rows = [dict(zip(names, row, strict=True)) for row in _ipcache_rows()]
    return [{**row, "ip": str(ip_network(str(row["ip"])))} for row in rows]


def _ipcache_rows() -> Iterable[tuple[object, ...]]:
    from cilium.datapath.generated import IpcacheFlags

    def value(prefix: str, entry: Any) -> tuple[object, ...]:
        tunnel = address(entry["tunnel_endpoint"]) if entry["tunnel_endpoint"].any() else "-"
        return prefix, entry["identity"], tunnel, entry["encrypt_key"], flag_names(entry["flags"], IpcacheFlags)

    for key, entry in entries("cilium_ipcache"):
        yield value(address(key["address"]), entry)
    for key, entry in entries("cilium_ipcache_cidr"):
        yield value(network(key["address"], int(key["prefixlen"]) - 32), entry)


@bpf.group()
def endpoint() -> None:
    """cilium_lxc."""


@endpoint.command("list")
@output
def endpoint_list(output: str) -> None:
    """Endpoints and the node's own addresses."""
    from cilium.datapath.generated import EndpointFlags

    def rows() -> Iterable[tuple[object, ...]]:
        for key, value in entries("cilium_lxc"):
            mac = ":".join(f"{byte:02x}" for byte in value["mac"]) if value["mac"].any() else "-"
            yield (
                address(key["address"]),
                value["id"],
                value["identity"],
                value["ifindex"] or "-",
                mac,
                value["ingress_policy"] or "-",
                value["egress_policy"] or "-",
                flag_names(value["flags"], EndpointFlags),
            )

    header = ("IP", "ENDPOINT", "IDENTITY", "IFINDEX", "MAC", "INGRESS POLICY", "EGRESS POLICY", "FLAGS")
    show(output, header, rows())


@bpf.group()
def policy() -> None:
    """cilium_policy, cilium_policy_class."""


@policy.command("get")
@click.argument("number", metavar="[ENDPOINT]", type=int, required=False)
@click.option("--all", "every", is_flag=True, help="Every endpoint of the node.")
@click.option("-n", "--numeric", is_flag=True, help="Identities as numbers, not as labels.")
@output
def policy_get(number: int | None, every: bool, numeric: bool, output: str) -> None:
    """The verdicts of one endpoint, or of all. Bytes and packets are those of the rule, on the whole node."""
    if number is None and not every:
        raise click.UsageError("name an endpoint id, or --all")
    found = policies(number, numeric=numeric)
    if output == "json":
        names = ("ENDPOINT", *header(numeric))
        show(output, names, [(endpoint, *row) for endpoint, rows in found.items() for row in rows])
        return
    for endpoint, rows in found.items():
        click.echo(f"Endpoint ID: {endpoint}")
        if rows:
            show(output, header(numeric), rows)
        else:
            click.echo("Policy is enforced in no direction: everything passes.")
        click.echo()


@bpf.group()
def ct() -> None:
    """cilium_ct."""


@ct.command("list")
@click.argument("scope", default="global")
@output
def ct_list(scope: str, output: str) -> None:
    """Tracked connections, client first."""
    from cilium.datapath.generated import CtFlags

    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def rows() -> Iterable[tuple[object, ...]]:
        for key, value in entries("cilium_ct"):
            if int(value["expires"]) < now:
                continue  # to the datapath it is no entry; the next collection takes it
            ends = [(address(key[side]), int(key[f"{side}_port"])) for side in ("low", "high")]
            if not int(value["flags"]) & CtFlags.LOW_OPENED:
                ends.reverse()
            yield (
                PROTOCOLS.get(int(key["protocol"]), str(key["protocol"])),
                _socket(*ends[0]),
                _socket(*ends[1]),
                f"{(int(value['expires']) - now) / 1e9:.0f}s",
                int(value["packets"][0]),
                int(value["packets"][1]),
                int(value["client_identity"]),
                int(value["server_identity"]),
                flag_names(value["flags"], CtFlags),
            )

    header = (
        "PROTOCOL", "CLIENT", "SERVER", "EXPIRES", "PACKETS OUT", "PACKETS BACK", "CLIENT ID", "SERVER ID", "FLAGS"
    )  # fmt: skip
    show(output, header, rows())


@bpf.group()
def nat() -> None:
    """cilium_snat."""


@nat.command("list")
@output
def nat_list(output: str) -> None:
    """Connections whose packets are translated, both directions."""

    def rows() -> Iterable[tuple[object, ...]]:
        for key, value in entries("cilium_snat"):
            yield (
                PROTOCOLS.get(int(key["protocol"]), str(key["protocol"])),
                "OUT" if int(key["direction"]) == 0 else "IN",
                _socket(address(key["source"]), int(key["source_port"])),
                _socket(address(key["destination"]), int(key["destination_port"])),
                _socket(address(value["source"]), int(value["source_port"])),
                _socket(address(value["destination"]), int(value["destination_port"])),
                int(value["service"]) or "-",
            )

    header = ("PROTOCOL", "DIRECTION", "SOURCE", "DESTINATION", "NEW SOURCE", "NEW DESTINATION", "SERVICE")
    show(output, header, rows())


@bpf.group()
def metrics() -> None:
    """cilium_metrics."""


@metrics.command("list")
@output
def metrics_list(output: str) -> None:
    """Packets and bytes per reason and direction, summed over processors."""
    from cilium.datapath.generated import DropReason, FlowDirection

    def rows() -> Iterable[tuple[object, ...]]:
        for key, value in entries("cilium_metrics"):
            packets, size = int(value["packets"].sum()), int(value["bytes"].sum())
            if packets:
                reason, direction = divmod(int(key), 4)
                name = "forwarded" if reason == 0 else DropReason(reason).name.lower()
                yield name, FlowDirection(direction).name.lower(), packets, size

    show(output, ("REASON", "DIRECTION", "PACKETS", "BYTES"), rows())


def _socket(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"

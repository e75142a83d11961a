"""`hubble status` and `hubble list`: what the server says of itself and of its cluster."""

from __future__ import annotations

from typing import Any

import click

from cilium.cli.columns import columns
from cilium.cli.hubble import client

_OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


@click.command("status")
@click.option("-o", "--output", type=click.Choice(["compact", "json"]), default="compact", show_default=True)
@client.options
def status(output: str, **arguments: Any) -> None:
    """Whether the server answers, and how many flows it keeps."""
    from cilium.api.proto.observer import observer_pb2

    server = client.take_server(arguments)
    with server.observer() as stub:
        said = stub.ServerStatus(observer_pb2.ServerStatusRequest(), timeout=server.request_timeout)
        if output == "json":
            click.echo(_json(said))
            return
        share = 100 * said.num_flows / said.max_flows if said.max_flows else 0
        click.echo(f"Healthcheck (via {server.address}): Ok")
        click.echo(f"Current/Max Flows: {said.num_flows:,}/{said.max_flows:,} ({share:.2f}%)")
        click.echo(f"Flows/s: {said.flows_rate:.2f}")
        nodes = f"{said.num_connected_nodes.value}/{said.num_connected_nodes.value + said.num_unavailable_nodes.value}"
        click.echo(f"Connected Nodes: {nodes}")
        for name in said.unavailable_nodes:
            click.echo(f"Unavailable: {name}")


@click.group("list")
def lists() -> None:
    """Nodes and namespaces that the server knows."""


@lists.command("nodes")
@_OUTPUT
@client.options
def nodes(output: str, **arguments: Any) -> None:
    """Nodes, their state and how many flows they keep."""
    from cilium.api.proto.observer import observer_pb2
    from cilium.api.proto.relay import relay_pb2

    server = client.take_server(arguments)
    with server.observer() as stub:
        said = stub.GetNodes(observer_pb2.GetNodesRequest(), timeout=server.request_timeout)
        if output == "json":
            click.echo(_json(said))
            return
        rows = []
        for node in said.nodes:
            state = relay_pb2.NodeState.Name(node.state).removeprefix("NODE_").capitalize()
            seconds = node.uptime_ns // 1_000_000_000
            age = f"{seconds // 3600}h{seconds // 60 % 60:02}m{seconds % 60:02}s"
            rate = node.seen_flows / max(seconds, 1)
            rows.append((node.name, state, age, f"{rate:.2f}", f"{node.num_flows}/{node.max_flows}"))
        click.echo(columns(("NAME", "STATUS", "AGE", "FLOWS/S", "CURRENT/MAX-FLOWS"), rows))


@lists.command("namespaces")
@_OUTPUT
@client.options
def namespaces(output: str, **arguments: Any) -> None:
    """Namespaces that the flows tell of."""
    from cilium.api.proto.observer import observer_pb2

    server = client.take_server(arguments)
    with server.observer() as stub:
        said = stub.GetNamespaces(observer_pb2.GetNamespacesRequest(), timeout=server.request_timeout)
        if output == "json":
            click.echo(_json(said))
            return
        click.echo(columns(("NAMESPACE", "CLUSTER"), [(one.namespace, one.cluster) for one in said.namespaces]))


def _json(message: Any) -> str:
    from google.protobuf.json_format import MessageToJson

    return str(MessageToJson(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True))

"""`cilium-dbg monitor`: packet events of this node as they happen.

Comes in: the flow service on its unix socket. Goes out: one line per event, or JSON.
"""

from __future__ import annotations

from typing import Any

import click

from cilium.cli.hubble.client import DEFAULT_SERVER, Server, quiet_broken_pipe
from cilium.hubble.monitor import TYPES, chooser, line


@click.command("monitor")
@click.option("-t", "--type", "types", multiple=True, type=click.Choice(list(TYPES)), help="Only events of this type.")
@click.option("--from", "from_", type=click.IntRange(1), metavar="ID", help="From this endpoint.")
@click.option("--to", type=click.IntRange(1), metavar="ID", help="To this endpoint.")
@click.option("--related-to", "related", type=click.IntRange(1), metavar="ID", help="From or to it.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Flows as JSON, one per line.")
@click.option("--last", type=click.IntRange(0), default=0, metavar="N", help="Begin with the newest N kept events.")
@click.option("--follow/--no-follow", default=True, help="Go on until interrupted.")
@click.option("--server", default=DEFAULT_SERVER, show_default=True, envvar="HUBBLE_SERVER", show_envvar=True)
def monitor(
    types: tuple[str, ...],
    from_: int | None,
    to: int | None,
    related: int | None,
    as_json: bool,
    last: int,
    follow: bool,
    server: str,
) -> None:
    """Show what happens to packets and sockets: deliveries, drops, policy verdicts, translations."""
    from cilium.api.proto.flow import flow_pb2
    from cilium.api.proto.observer import observer_pb2

    wanted = [flow_pb2.EventTypeFilter(type=TYPES[name]) for name in types]
    request = observer_pb2.GetFlowsRequest(number=last, follow=follow)
    if wanted:
        request.whitelist.append(flow_pb2.FlowFilter(event_type=wanted))
    chosen = chooser(from_=from_ or 0, to=to or 0, related=related or 0)
    try:
        with Server(address=server).observer() as stub:
            if follow and not as_json:
                click.echo("Press Ctrl-C to quit", err=True)
            for response in stub.GetFlows(request):
                if response.HasField("lost_events"):
                    click.echo(f"{response.lost_events.num_events_lost} events lost", err=True)
                elif chosen(response.flow):
                    print(_text(response.flow, as_json), flush=True)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        quiet_broken_pipe()


def _text(flow: Any, as_json: bool) -> str:
    if not as_json:
        return line(flow)
    from google.protobuf.json_format import MessageToJson

    return str(MessageToJson(flow, preserving_proto_field_name=True, indent=None))

"""cilium-dbg monitor: packet events of this node as they happen, in terse lines."""

from __future__ import annotations

import click


@click.command()
@click.option("-t", "--type", "types", multiple=True, type=click.Choice(["drop", "trace", "policy-verdict"]))
@click.option("--from", "from_", type=int, default=0, help="Only from this endpoint id.")
@click.option("--to", type=int, default=0, help="Only to this endpoint id.")
@click.option("--related-to", "related", type=int, default=0, help="From or to this endpoint id.")
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object per line.")
def monitor(types: tuple[str, ...], from_: int, to: int, related: int, as_json: bool) -> None:
    """Follow packet events until interrupted."""
    from google.protobuf.json_format import MessageToJson

    from cilium.api.proto.flow import flow_pb2
    from cilium.api.proto.observer import observer_pb2
    from cilium.cli.hubble.client import Server
    from cilium.hubble.monitor import TYPES, chooser, line

    wanted = [flow_pb2.EventTypeFilter(type=TYPES[name]) for name in types]
    filters = [flow_pb2.FlowFilter(event_type=wanted)] if wanted else []
    chosen = chooser(from_=from_, to=to, related=related)
    click.echo("Listening for events; Ctrl-C ends", err=True)
    try:
        with Server().observer() as observer:
            for response in observer.GetFlows(observer_pb2.GetFlowsRequest(follow=True, whitelist=filters)):
                if response.HasField("flow") and chosen(response.flow):
                    text = MessageToJson(response.flow, indent=None) if as_json else line(response.flow)
                    click.echo(text)
                elif response.HasField("lost_events"):
                    click.echo(f"!! {response.lost_events.num_events_lost} events lost", err=True)
    except KeyboardInterrupt:
        pass

"""`hubble observe`: ask for flows and print them.

Owns: the options of `observe flows|agent-events`, the request they make, and the loop that prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from cilium.cli.hubble import client, formats, times
from cilium.cli.hubble.flags import FLAGS, Flag
from cilium.cli.hubble.selection import DESTINATION, EITHER, SOURCE, Filters, Given, build

DEFAULT_LAST = 20
_SIDES = {"": EITHER, "from_": SOURCE, "to_": DESTINATION}
_EVERYWHERE = {"all_namespaces": EITHER, "from_all_namespaces": SOURCE, "to_all_namespaces": DESTINATION}
OUTPUTS = ("compact", "dict", "json", "jsonpb", "table", "tab")


class OrderedCommand(click.Command):
    """Remembers the order of options: `--not` speaks of the option after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta["order"] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


class ObserveGroup(click.Group):
    """`hubble observe --pod a` is `hubble observe flows --pod a`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["flows", *args]
        return super().parse_args(ctx, args)


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(FLAGS):
        for prefix in ("to-", "from-", "") if flag.sided else ("",):
            names = [f"--{prefix}{flag.name}", f"{prefix}{flag.name}".replace("-", "_")]
            if not prefix:
                names += [*flag.aliases, *([flag.short] if flag.short else [])]
            what = {"": "", "from-": "source: ", "to-": "destination: "}[prefix] + flag.help
            kind: dict[str, Any] = {"count": True} if flag.switch else {"multiple": True, "metavar": "VALUE"}
            command = click.option(*names, help=what, **kind)(command)
    return command


@click.group("observe", cls=ObserveGroup)
def observe() -> None:
    """Flows of a node: who talked to whom, and what became of it."""


@observe.command("flows", cls=OrderedCommand)
@click.option("--last", type=click.IntRange(0), help=f"The newest N flows; {DEFAULT_LAST} if nothing else is said.")
@click.option("--first", type=click.IntRange(0), help="The oldest N flows.")
@click.option("--all", "everything", is_flag=True, help="Every flow that is kept.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new flows as they come.")
@click.option("--since", default="", help="From then on: 5m, or 2026-11-23T01:02:03Z.")
@click.option("--until", default="", help="Up to then.")
@click.option("--not", "negate", count=True, help="Exclude what the next filter selects.")
@_filter_options
@click.option("-A", "--all-namespaces", is_flag=True, help="Names without a namespace are in any, not in default.")
@click.option("--from-all-namespaces", is_flag=True, help="The same for sources.")
@click.option("--to-all-namespaces", is_flag=True, help="The same for destinations.")
@click.option("--allowlist", multiple=True, help="A FlowFilter as JSON; replaces the filters made of flags.")
@click.option("--denylist", multiple=True, help="The same, for flows to exclude.")
@click.option("--print-raw-filters", is_flag=True, help="Print the filters as JSON instead of asking.")
@click.option("--field-mask", multiple=True, help="Ask for these fields only (with -o json).")
@click.option("-o", "--output", type=click.Choice(OUTPUTS), default="compact", show_default=True)
@click.option("--print-node-name", is_flag=True, help="Show where a flow was seen.")
@click.option("--print-policy-names", is_flag=True, help="Show which policies decided.")
@click.option("--numeric", is_flag=True, help="Addresses and numbers instead of names.")
@click.option("--ip-translation/--no-ip-translation", default=True, help="Names of pods instead of addresses.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
@click.option("--time-format", type=click.Choice(list(times.FORMATS)), default="StampMilli", show_default=True)
@click.option("-s", "--silent-errors", is_flag=True, help="Do not tell of lost events.")
@client.options
@click.pass_context
def flows(ctx: click.Context, /, **arguments: Any) -> None:
    """Print flows, by default the newest twenty."""
    server = client.take_server(arguments)
    filters = build(_given(ctx.meta["order"], arguments), all_namespaces=_everywhere(arguments))
    request = _request(arguments, filters)
    if arguments["print_raw_filters"]:
        _print_filters(request)
        return
    style = formats.Style(
        time_format=arguments["time_format"],
        color=_colored(arguments["color"]),
        numeric=arguments["numeric"] or not arguments["ip_translation"],
        node_name=arguments["print_node_name"],
        policy_names=arguments["print_policy_names"],
    )
    timeout = None if arguments["follow"] else server.request_timeout
    try:
        with server.observer() as stub:
            responses = stub.GetFlows(request, timeout=timeout)
            _print(responses, arguments["output"], style, silent=arguments["silent_errors"])
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        client.quiet_broken_pipe()


def _given(order: list[str], arguments: dict[str, Any]) -> list[Given]:
    """Filter options with their values in the order of the command line."""
    known: dict[str, tuple[Flag, int]] = {}
    for flag in FLAGS:
        for prefix in ("", "from_", "to_") if flag.sided else ("",):
            known[prefix + flag.key] = (flag, _SIDES[prefix])
    values = {
        name: iter([""] * arguments[name] if flag.switch else arguments[name]) for name, (flag, _) in known.items()
    }
    given: list[Given] = []
    negated = False
    for name in order:
        if name == "negate":
            if negated:
                raise click.UsageError("--not twice in a row: it speaks of the filter after it")
            negated = True
        elif name in known:
            flag, side = known[name]
            given.append(Given(flag, next(values[name]), side, negated))
            negated = False
        elif negated:
            raise click.UsageError(f"--not before --{name.replace('_', '-')}, which is no filter")
    if negated:
        raise click.UsageError("--not at the end: it speaks of the filter after it")
    return given


def _everywhere(arguments: dict[str, Any]) -> frozenset[int]:
    return frozenset(side for name, side in _EVERYWHERE.items() if arguments[name])


def _request(arguments: dict[str, Any], filters: Filters) -> Any:
    from google.protobuf.json_format import ParseDict, ParseError

    from cilium.api.proto.observer import observer_pb2

    last, first = arguments["last"], arguments["first"]
    if last is not None and first is not None:
        raise click.UsageError("--first and --last exclude each other")
    if arguments["everything"] and (last is not None or first is not None):
        raise click.UsageError("--all excludes --first and --last")
    bounded = arguments["follow"] or arguments["since"] or arguments["until"] or arguments["everything"]
    number = first if first is not None else last if last is not None else 0 if bounded else DEFAULT_LAST
    request = observer_pb2.GetFlowsRequest(
        number=number, follow=arguments["follow"], first=first is not None or arguments["everything"]
    )
    for name in ("since", "until"):
        if arguments[name]:
            seconds, nanos = times.parts(times.nanoseconds(arguments[name]))
            getattr(request, name).seconds, getattr(request, name).nanos = seconds, nanos
    request.field_mask.paths.extend(arguments["field_mask"])
    raw = arguments["allowlist"] or arguments["denylist"]
    white = map(_json, arguments["allowlist"]) if raw else filters.whitelist
    black = map(_json, arguments["denylist"]) if raw else filters.blacklist
    try:
        for fields in white:
            ParseDict(_experimental(fields), request.whitelist.add())
        for fields in black:
            ParseDict(_experimental(fields), request.blacklist.add())
    except ParseError as error:
        raise click.UsageError(f"filter: {error}") from None
    return request


def _experimental(fields: dict[str, Any]) -> dict[str, Any]:
    if "cel_expression" not in fields:
        return fields
    rest = {name: values for name, values in fields.items() if name != "cel_expression"}
    return {**rest, "experimental": {"cel_expression": fields["cel_expression"]}}


def _json(text: str) -> dict[str, Any]:
    import json

    try:
        fields = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"filter {text!r} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise click.UsageError(
            f'filter {text!r} is no FlowFilter: give an object, for example {{"source_ip": ["10.0.0.1"]}}'
        )
    return fields


def _print_filters(request: Any) -> None:
    from google.protobuf.json_format import MessageToJson

    for name, filters in (("allowlist", request.whitelist), ("denylist", request.blacklist)):
        if filters:
            click.echo(f"{name}:")
        for one in filters:
            click.echo("    - " + MessageToJson(one, preserving_proto_field_name=True, indent=None))


def _print(responses: Iterable[Any], output: str, style: formats.Style, *, silent: bool) -> None:
    rows: list[list[str]] = []
    line = formats.LINES.get(output)
    for response in responses:
        if response.HasField("lost_events") and not silent and output not in ("json", "jsonpb"):
            print(formats.lost(response.lost_events), file=sys.stderr)
        elif line is not None and (response.HasField("flow") or output in ("json", "jsonpb")):
            print(line(response, style), flush=True)
        elif response.HasField("flow"):
            rows.append(formats.cells(response, style))
    if line is None:
        from cilium.cli.columns import columns

        shown = [i for i, name in enumerate(formats.TABLE_HEADER) if style.node_name or name != "NODE"]
        print(columns([formats.TABLE_HEADER[i] for i in shown], [[row[i] for i in shown] for row in rows]))


def _colored(choice: str) -> bool:
    return choice == "always" or (choice == "auto" and sys.stdout.isatty())


@observe.command("agent-events")
@click.option("--last", type=click.IntRange(0), help="The newest N events.")
@click.option("-f", "--follow", is_flag=True)
@click.option("-o", "--output", type=click.Choice(["compact", "json", "jsonpb"]), default="compact")
@click.option("--time-format", type=click.Choice(list(times.FORMATS)), default="StampMilli", show_default=True)
@client.options
def agent_events(last: int | None, follow: bool, output: str, time_format: str, **arguments: Any) -> None:
    """What the agent did: endpoints, addresses and policies that changed."""
    from google.protobuf.json_format import MessageToJson

    from cilium.api.proto.flow import flow_pb2
    from cilium.api.proto.observer import observer_pb2

    server = client.take_server(arguments)
    number = last if last is not None else 0 if follow else DEFAULT_LAST
    request = observer_pb2.GetAgentEventsRequest(number=number, follow=follow)
    style = formats.Style(time_format=time_format)
    try:
        with server.observer() as stub:
            for response in stub.GetAgentEvents(request, timeout=None if follow else server.request_timeout):
                if output != "compact":
                    print(formats.json_line(response, style), flush=True)
                    continue
                event = response.agent_event
                said = getattr(event, event.WhichOneof("notification") or "unknown")
                details = MessageToJson(said, preserving_proto_field_name=True, indent=None)
                print(
                    f"{formats.moment(response, style)}: {flow_pb2.AgentEventType.Name(event.type)} {details}",
                    flush=True,
                )
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        client.quiet_broken_pipe()

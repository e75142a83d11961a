"""cilium policy explain: from the command line's words to answers.

In: a `Question`. Out: printed answers, an exit status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click
from msgspec import structs

from cilium.cli.cluster.policy import explaining
from cilium.cli.cluster.policy.agents import Agents
from cilium.cli.cluster.policy.ends import End, at_port, distinct, ends, labelled
from cilium.cli.cluster.policy.explaining import Answer
from cilium.cli.cluster.policy.outcome import DENIED, DIFFERENT, PASSES, print_json
from cilium.cli.cluster.policy.view import View, connected, look
from cilium.features.policy.explain.judge import explain
from cilium.features.policy.explain.rows import PROTOCOL_NAMES, PROTOCOLS, Direction, Party, Traffic, Verdict
from cilium.features.policy.explain.spectrum import Connection, spectrum
from cilium.sources.kubernetes.client import Client


@dataclass(frozen=True)
class Question:
    source: str
    labels: str
    namespace: str
    destination: str
    port: str
    live: bool


async def ask(kubeconfig: str, cilium_namespace: str, question: Question, output: str) -> int:
    """Prints the answers. Returns the exit status. Raises click.ClickException."""
    async with connected(kubeconfig) as client:
        view = await look(client, cilium_namespace)
        sources = (
            [labelled(view, question.labels, question.namespace)]
            if question.labels
            else distinct(ends(view, question.source, option="--from"))
        )
        found = ends(view, question.destination, option="--to")
        for warning in view.warnings:
            click.echo(f"warning: {warning}", err=True)
        if not question.port:
            return _all_traffic(view, sources, distinct(found), output)
        answers = answer_all(view, sources, found, question.port)
        if question.live:
            await _go_live(client, cilium_namespace, answers)
    _print([answer for *_, answer in answers], output)
    return status_of(answer for *_, answer in answers)


Asked = tuple[End, End, Answer]


def answer_all(view: View, sources: list[End], destinations: list[End], port: str) -> list[Asked]:
    """Every source to every destination that policies tell apart."""
    name, protocol = parse_port(port)
    reached = destinations
    if name.isdecimal() and protocol in ("TCP", "UDP", "SCTP"):
        reached = distinct(at_port(view, end, int(name), protocol) for end in destinations)
    answers = []
    for source in sources:
        for destination in reached:
            if _families(source, destination):
                traffic = Traffic(PROTOCOLS[protocol], destination.port or _number(name, protocol, destination))
                parties = source.beside(destination), _behind(destination.beside(source), destination, name)
                explanation = explain(view.policies, *parties, traffic, view.mode)
                answers.append((source, destination, Answer(explanation)))
    return answers


def _behind(party: Party, end: End, port: str) -> Party:
    """Named after the service too, by which it is reached."""
    return structs.replace(party, name=f"{party.name} (service {end.service}:{port})") if end.service else party


def _families(one: End, other: End) -> bool:
    """Whether the two can have a connection: an address family in common, as far as addresses are known."""
    versions = [{address.version for address in end.addresses} for end in (one, other)]
    return not all(versions) or bool(versions[0] & versions[1])


def parse_port(text: str) -> tuple[str, str]:
    """(number or name, protocol). Raises click.BadParameter."""
    port, slash, protocol = text.partition("/")
    known = {name.upper(): name for name in PROTOCOLS}
    if not slash or protocol.upper() not in known or not re.fullmatch(r"\d{1,5}|[A-Za-z0-9-]{1,15}", port):
        problem = f"{text!r} is not PORT/PROTOCOL with one of {', '.join(PROTOCOLS)}: 80/TCP, http/TCP, 8/ICMP"
        raise click.BadParameter(problem, param_hint="--port")
    if port.isdecimal() and int(port) > (255 if protocol.upper().startswith("ICMP") else 65535):
        raise click.BadParameter(f"{port} is too large for {protocol}", param_hint="--port")
    return port.lower(), known[protocol.upper()]


def _number(name: str, protocol: str, destination: End) -> int:
    if name.isdecimal():
        return int(name)
    for port in destination.party.named_ports:
        if port.name.lower() == name and port.protocol == protocol:
            return port.port
    raise click.BadParameter(f"{destination.party.name} has no port named {name}/{protocol}", param_hint="--port")


def _all_traffic(view: View, sources: list[End], destinations: list[End], output: str) -> int:
    documents: list[Any] = []
    texts = []
    for source in sources:
        for destination in destinations:
            parties = source.beside(destination), destination.beside(source)
            ranges = spectrum(Connection.between(view.policies, *parties, view.mode))
            texts.append(explaining.ranges_text(*parties, ranges))
            documents.append(
                {
                    "source": parties[0].name,
                    "destination": parties[1].name,
                    "traffic": explaining.by_verdict(ranges),
                }
            )
    if output == "json":
        print_json(documents)
    else:
        click.echo("\n\n".join(texts))
    return PASSES


def _print(answers: list[Answer], output: str) -> None:
    if output == "json":
        print_json([explaining.document(answer) for answer in answers])
    else:
        click.echo("\n\n".join(explaining.text(answer) for answer in answers))


def status_of(answers: Iterable[Answer]) -> int:
    answers = list(answers)
    if any(answer.differences for answer in answers):
        return DIFFERENT
    return DENIED if any(answer.explanation.verdict is Verdict.DENIED for answer in answers) else PASSES


async def _go_live(client: Client, namespace: str, answers: list[Asked]) -> None:
    agents = await Agents.find(client, namespace)
    for source, destination, answer in answers:
        for direction, subject, peer in (
            (Direction.EGRESS, source, destination),
            (Direction.INGRESS, destination, source),
        ):
            judgement = getattr(answer.explanation, direction)
            if not (subject.pod or (subject.is_node and judgement.enforced)):
                continue  # nothing is enforced there
            try:
                answer.live[direction] = await _live(agents, direction, subject, peer, answer.explanation.traffic)
            except click.ClickException as error:
                answer.live[direction] = error.message


async def _live(agents: Agents, direction: Direction, subject: End, peer: End, traffic: Traffic) -> dict[str, Any]:
    who = {"peer": str(peer.addresses[0])} if peer.addresses else {"identity": str(peer.identity)}
    if not peer.addresses and not peer.identity:
        raise click.ClickException(f"{peer.party.name} has no address")
    return await agents.verdict(
        subject.node,
        {
            "endpoint": subject.pod or str(subject.addresses[0]),
            "direction": direction.value,
            **who,
            "protocol": PROTOCOL_NAMES[traffic.protocol],
            "port": str(traffic.port),
        },
    )

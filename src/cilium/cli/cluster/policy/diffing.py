"""cilium policy diff: what would change if policies were applied or deleted.

In: a file, keys of objects; the cluster, its flows. Out: changes of recent flows, changes between all that policies
tell apart; as text and as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import msgspec
import yaml

from cilium.cli.cluster.policy.agents import Agents
from cilium.cli.cluster.policy.ends import End, of_node, pods, world
from cilium.cli.cluster.policy.explaining import joined, painted
from cilium.cli.cluster.policy.outcome import CHANGES, PASSES, print_json
from cilium.cli.cluster.policy.talks import Talk, talks
from cilium.cli.cluster.policy.view import View, connected, look
from cilium.cli.tree import Tree
from cilium.features.policy.explain.compare import Change, Comparison, representatives, why
from cilium.features.policy.explain.rows import Party, Verdict, title
from cilium.features.policy.explain.spectrum import LAST, OTHER, Range, spectrum
from cilium.settings import PolicySettings
from cilium.sources.kubernetes import policies as parsers
from cilium.tables.rules import PolicyObject

KINDS: dict[str, Any] = {
    "NetworkPolicy": parsers.decode_knp,
    "CiliumNetworkPolicy": parsers.decode_cnp,
    "CiliumClusterwideNetworkPolicy": parsers.decode_ccnp,
    "ClusterNetworkPolicy": parsers.decode_cluster_network_policy,
}
CILIUM = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
"""Whose language depends on settings."""
NAMESPACED = ("NetworkPolicy", "CiliumNetworkPolicy")
RESERVED = ("host", "remote-node", "kube-apiserver", "health")
MOST = 6
"""So many names stand in one line."""


@dataclass(frozen=True)
class Wish:
    """What is asked: manifests and keys of objects to delete, or `since` when flows are looked at ("": not at all)."""

    manifests: str
    delete: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class TalkChange:
    talk: Talk
    before: Verdict
    after: Verdict
    why: str


async def diff(kubeconfig: str, cilium_namespace: str, wish: Wish, output: str) -> int:
    """Prints what would change. Returns the exit status. Raises click.ClickException."""
    async with connected(kubeconfig) as client:
        view = await look(client, cilium_namespace)
        new = parse(wish.manifests, cluster=view.settings.cluster.name, settings=view.settings.policy)
        after = view.changed(new, frozenset(_known(view, key) for key in wish.delete))
        seen: list[Talk] = []
        problems: list[str] = []
        if wish.since:
            agents = await Agents.find(client, cilium_namespace)
            flows, problems = await agents.flows(wish.since)
            seen = talks(view, flows)
    groups = grouped(pods(view).values())
    if view.mode.host_firewall:
        groups += [of_node(view, node).party for node in view.tables.cilium_nodes.snapshot()]
    comparison = Comparison(view.policies, after, groups, view.mode)
    past = [change for talk in seen if (change := changed_talk(comparison, talk))]
    changes = comparison.changes(others(view, comparison))
    for problem in (*view.warnings, *problems):
        click.echo(f"warning: {problem}", err=True)
    if output == "json":
        print_json(document(past, changes))
    else:
        click.echo(text(past, changes, seen, wish, groups))
    return CHANGES if past or changes else PASSES


# --------------------------------------------------------------------------------------------------------------- input


def parse(manifests: str, *, cluster: str, settings: PolicySettings = parsers.PLAIN) -> list[PolicyObject]:
    """The policies of a YAML file with any number of documents. Raises click.ClickException with every mistake."""
    try:
        documents = [one for one in yaml.safe_load_all(manifests) if one is not None]
    except yaml.YAMLError as error:
        raise click.ClickException(f"not YAML: {error}") from None
    found: list[PolicyObject] = []
    problems: list[str] = []
    for item in (entry for one in documents for entry in _items(one)):
        row = _policy(item, cluster, settings) if isinstance(item, dict) else f"{item!r} is no object"
        if isinstance(row, str):
            problems.append(row)
        elif row.error:
            problems.append(f"{title(row)}: {row.error}")
        else:
            found.append(row)
    if problems:
        raise click.ClickException("the file is not valid:\n  " + "\n  ".join(problems))
    return found


def _items(manifest: Any) -> Iterable[Any]:
    is_list = isinstance(manifest, dict) and str(manifest.get("kind", "")).endswith("List")
    return manifest.get("items") or () if is_list else (manifest,)


def _policy(item: dict[str, Any], cluster: str, settings: PolicySettings) -> PolicyObject | str:
    kind, metadata = item.get("kind"), item.get("metadata")
    if kind not in KINDS:
        return f"kind: {kind!r} is no policy: one of {', '.join(KINDS)}"
    if not isinstance(metadata, dict) or not metadata.get("name"):
        return f"{kind}: metadata.name: is missing"
    if kind in NAMESPACED:
        item = item | {"metadata": {"namespace": "default", **metadata}}
    more = {"settings": settings} if kind in CILIUM else {}
    row: PolicyObject = partial(KINDS[kind], cluster=cluster, **more)(msgspec.json.encode(item))
    return row


def _known(view: View, text: str) -> str:
    """KIND/NAMESPACE/NAME or KIND/NAME as a key. Raises click.BadParameter."""
    parts = text.split("/")
    key = f"{parts[0]}//{parts[1]}" if len(parts) == 2 else text
    keys = [policy.key for policy in view.policies]
    short = {"cnp": "CiliumNetworkPolicy", "ccnp": "CiliumClusterwideNetworkPolicy", "netpol": "NetworkPolicy"}

    kind, _, rest = key.partition("/")
    key = f"{short.get(kind.lower(), kind)}/{rest}"
    match = next((one for one in keys if one.lower() == key.lower()), None)
    if match is None:
        known = ", ".join(one.replace("//", "/") for one in keys) or "there are none"
        raise click.BadParameter(f"there is no policy {text}; policies: {known}", param_hint="--delete")
    return match


def grouped(ends: Iterable[End]) -> list[Party]:
    """One party for all pods that policies cannot tell apart, named after their workload."""
    names: dict[tuple[object, ...], list[End]] = {}
    for end in ends:
        if end.pod:
            names.setdefault((end.party.labels, end.party.named_ports), []).append(end)
    found = [
        msgspec.structs.replace(members[0].party, name=_common_name(sorted(one.workload for one in members)))
        for members in names.values()
    ]
    return sorted(found, key=lambda party: (party.name, party.labels))


def _common_name(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    return distinct[0] if len(distinct) == 1 else f"{distinct[0]} and {len(distinct) - 1} more"


def others(view: View, comparison: Comparison) -> list[Party]:
    """Nodes and what is outside: an address in each CIDR that rules name, and one elsewhere, per family."""
    found = [Party(name, (f"reserved:{name}",), endpoint=False) for name in RESERVED]
    families = len(view.versions)
    for prefix, address in sorted(representatives(comparison.prefixes()).items(), key=lambda pair: str(pair[0])):
        if prefix.version in view.versions:
            found.append(world(str(prefix), prefix.version, families, address).party)
    found += [world(f"world elsewhere (IPv{version})", version, families).party for version in view.versions]
    return found


def changed_talk(comparison: Comparison, talk: Talk) -> TalkChange | None:
    if not comparison.differ(talk.source, talk.destination):
        return None
    before, after = (
        next(one for one in spectrum(connection) if one.holds(talk.traffic))
        for connection in comparison.connections(talk.source, talk.destination)
    )
    if before.verdict is after.verdict:
        return None
    return TalkChange(talk, before.verdict, after.verdict, why(before, after))


# -------------------------------------------------------------------------------------------------------------- output


def text(
    past: Sequence[TalkChange], changes: Sequence[Change], seen: Sequence[Talk], wish: Wish, groups: Sequence[Party]
) -> str:
    parts = []
    if wish.since:
        head = f"{len(past)} of {len(seen)} connections seen in the last {wish.since} would change"
        tree = Tree(click.style(head, bold=True))
        for one in past:
            flows = f"{one.talk.flows} flow{'s' if one.talk.flows > 1 else ''}, last {one.talk.last}"
            leaf = tree.add(f"{one.talk.text}: {_turn(one.before, one.after)} ({flows})")
            leaf.add(one.why)
        parts.append(str(tree))
    tree = Tree(click.style("What would change between all that policies tell apart", bold=True))
    for (before, after, reason), lines in summary(changes, {party.name for party in groups}).items():
        leaf = tree.add(f"{_turn(before, after)}: {reason}")
        for line in lines:
            leaf.add(line)
    if not changes:
        tree.add("nothing")
    return "\n\n".join([*parts, str(tree)])


def _turn(before: Verdict, after: Verdict) -> str:
    return f"{painted(before)} → {painted(after)}"


def summary(changes: Iterable[Change], everybody: set[str]) -> dict[tuple[Verdict, Verdict, str], list[str]]:
    """Lines by verdicts and reason: those with the same peers and traffic share one."""
    sources: dict[tuple[Verdict, Verdict, str, str, str], list[str]] = {}
    for one in changes:
        key = one.before, one.after, one.why, ranges_text(one.ranges), one.destination.name
        sources.setdefault(key, []).append(one.source.name)
    destinations: dict[tuple[Verdict, Verdict, str, str, tuple[str, ...]], list[str]] = {}
    for (before, after, reason, traffic, destination), names in sources.items():
        destinations.setdefault((before, after, reason, traffic, tuple(names)), []).append(destination)
    found: dict[tuple[Verdict, Verdict, str], list[str]] = {}
    for (before, after, reason, traffic, who), names in destinations.items():
        line = f"{_names(who, everybody)} → {_names(names, everybody)}: {traffic}"
        found.setdefault((before, after, reason), []).append(line)
    return found


def _names(names: Iterable[str], everybody: set[str]) -> str:
    known = list(dict.fromkeys(names))
    said = []
    if len(everybody) > MOST and everybody <= set(known):
        known = [name for name in known if name not in everybody]
        said.append("every pod")
    shown = known[:MOST]
    more = [f"{len(known) - MOST} more"] if len(known) > MOST else []
    return ", ".join([*said, *shown, *more])


def ranges_text(ranges: Sequence[Range]) -> str:
    """`TCP 80`, or what is left out if that is shorter."""
    rest = list(_complement(ranges))
    if not rest:
        return "all traffic"
    if len(rest) < len(ranges):
        return f"all traffic but {', '.join(one.text for one in rest)}"
    return ", ".join(one.text for one in ranges)


def _complement(ranges: Sequence[Range]) -> Iterable[Range]:
    for protocol, last in (*LAST.items(), (OTHER, 0)):
        start = 0
        for one in sorted((one for one in ranges if one.protocol == protocol), key=lambda one: one.first):
            if one.first > start:
                yield Range(protocol, start, one.first - 1, Verdict.ALLOWED)
            start = one.last + 1
        if start <= last:
            yield Range(protocol, start, last, Verdict.ALLOWED)


def document(past: Iterable[TalkChange], changes: Iterable[Change]) -> Any:
    return {
        "flows": [
            {
                "source": one.talk.source.name,
                "destination": one.talk.destination.name,
                "protocol": one.talk.traffic.protocol,
                "port": one.talk.traffic.port,
                "flows": one.talk.flows,
                "last": one.talk.last,
                "before": one.before,
                "after": one.after,
                "why": one.why,
            }
            for one in past
        ],
        "pairs": [
            {
                "source": one.source.name,
                "destination": one.destination.name,
                "traffic": [part.text for part in joined(one.ranges)],
                "before": one.before,
                "after": one.after,
                "why": one.why,
            }
            for one in changes
        ],
    }

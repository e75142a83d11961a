"""cilium policy suggest: policies from the flows of a namespace, as YAML or JSON.

In: the cluster's view, flows of all nodes. Out: manifests for kubectl apply.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import click
import yaml

from cilium.cli.cluster.policy.agents import Agents
from cilium.cli.cluster.policy.talks import Talk, talks
from cilium.cli.cluster.policy.view import View, connected, look
from cilium.features.policy.explain.rows import Party
from cilium.features.policy.suggest import Observation, Other, Place, Suggestion, is_request
from cilium.features.policy.suggest import suggest as suggested


async def suggest(kubeconfig: str, cilium_namespace: str, namespace: str, since: str, output: str) -> str:
    """Raises click.ClickException."""
    async with connected(kubeconfig) as client:
        view = await look(client, cilium_namespace)
        if view.tables.namespaces.snapshot().get(namespace) is None:
            raise click.ClickException(f"namespace {namespace} does not exist")
        agents = await Agents.find(client, cilium_namespace)
        flows, problems = await agents.flows(since)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)
    found, silent = suggested(namespace, workloads(view), observations(view, talks(view, flows)))
    if output == "json":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": [one.policy for one in found]}, indent=2)
    return manifests(found, silent, header=f"Allows what was seen in namespace {namespace} in the last {since}.")


def workloads(view: View) -> Mapping[Place, Mapping[str, str]]:
    """Labels that all pods of a workload have and that make identities, by workload."""
    found: dict[Place, dict[str, str]] = {}
    for pod in view.pods_by_ip.values():
        labels = {key: value for key, value in pod.labels.items() if view.filter.keeps(key)}
        place = pod.namespace, pod.workload_name or pod.name
        found[place] = labels if place not in found else dict(found[place].items() & labels.items())
    return found


def observations(view: View, seen: Iterable[Talk]) -> list[Observation]:
    """Both directions of every talk."""
    known = workloads(view)
    found = []
    for talk in seen:
        if not is_request(talk.traffic.protocol, talk.traffic.port) or not (talk.delivered or talk.denied):
            continue
        for egress, place, other_place, other in (
            (True, talk.source_workload, talk.destination_workload, talk.destination),
            (False, talk.destination_workload, talk.source_workload, talk.source),
        ):
            peer = _other(other, other_place, known)
            if place not in known or peer is None:
                continue
            if not egress and peer.entity == "host" and view.mode.allow_localhost:
                continue  # the node reaches its own pods anyway
            traffic = talk.traffic.protocol, talk.traffic.port
            found.append(Observation(place, egress, peer, *traffic, passed=talk.delivered))
    return found


def _other(party: Party, place: Place, known: Mapping[Place, Mapping[str, str]]) -> Other | None:
    """None: it is gone, and nothing selects it any more."""
    if place[1]:
        return Other(workload=place, name="/".join(place)) if place in known else None
    if "reserved:kube-apiserver" in party.labels:
        return Other(entity="kube-apiserver", name="kube-apiserver")
    if party.networks:
        return Other(network=party.networks[0], name=party.name)
    return Other(entity=party.name, name=party.name)


def manifests(found: Sequence[Suggestion], silent: Sequence[str], *, header: str) -> str:
    """YAML documents; comments say what is not in them."""
    lines = [f"# {header} Everything else is closed: read before you apply it."]
    lines += [f"# no traffic was seen, no policy is written: {name}" for name in silent]
    for one in found:
        lines += ["---", *(f"# {note}" for note in one.notes), yaml.safe_dump(one.policy, sort_keys=False).rstrip()]
    return "\n".join(lines)

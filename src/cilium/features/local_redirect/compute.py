"""Which addresses this node's own pods answer instead of whom they belong to.

In: `redirect-policies`, `services`, `pods` and `endpoints` of this node. Out: `redirect-frontends`, which become rows
of `frontends`; `local-redirects`, what each policy means here; `redirect-problems`. A policy without a ready pod on
this node changes nothing here. Two policies that claim one address: the older one has it, the other is named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cilium.datapath.generated import SkipBit
from cilium.features.local_redirect.selection import Selected, select
from cilium.state import RowChanges, Snapshot, View
from cilium.state.claims import Claims
from cilium.tables.kubernetes import Pod
from cilium.tables.problems import ProblemBook
from cilium.tables.redirects import LocalRedirect, RedirectBackend, RedirectMapping, RedirectPolicy, RedirectPort
from cilium.tables.services import REDIRECT_SUFFIX, Backend, Frontend, FrontendKey, Scope, Service
from cilium.tables.types import IPAddress

KIND = "LocalRedirect"
MATCHER = "spec.redirectFrontend"
Place = tuple[IPAddress, RedirectPort, RedirectPort]
"""An address and its port, and the port of pods that stands for it."""


class Redirects:
    """The derivation. `versions`: IP versions that this node speaks; `host_cookie`: of its network namespace."""

    def __init__(self, *, node: str, versions: Collection[int], host_cookie: int) -> None:
        self._node, self._versions, self._host_cookie = node, frozenset(versions), host_cookie
        self._claims: Claims[FrontendKey, str, Frontend] = Claims()
        self._policies: dict[str, RedirectPolicy] = {}
        self._complaints: dict[str, dict[str, str]] = {}
        """By policy: messages by field."""
        self._problems = ProblemBook("CiliumLocalRedirectPolicy")

    def compute(self, view: View) -> Mapping[str, RowChanges[Any, Any]]:
        touched = self._touched(view)
        keys: set[FrontendKey] = set()
        redirects: list[LocalRedirect] = []
        gone: list[str] = []
        pods = _by_namespace(view.snapshots["pods"], {name.partition("/")[0] for name in touched})
        for name in touched:
            policy = view.snapshots["redirect-policies"].get(name)
            self._complaints.pop(name, None)
            if policy is None:
                self._policies.pop(name, None)
                gone.append(name)
                keys |= self._claims.drop(name)
                continue
            self._policies[name] = policy
            selected = select(policy.selector, pods.get(policy.namespace, ()))
            redirect = self._redirect(policy, selected, view.snapshots["services"])
            redirects.append(redirect)
            rows = {row.key: row for row in self._rows(redirect, self._cookies(policy, selected, view))}
            keys |= self._claims.replace(name, (policy.created, name), rows)
        concerned = {owner for key in keys for owner, _ in self._claims.of(key)} | set(touched)
        return {
            "redirect-frontends": self._claims.changes(keys),
            "local-redirects": RowChanges(upserts=redirects, deletes=gone),
            "redirect-problems": self._problems.report({name: self._found(name) for name in concerned}),
        }

    def _touched(self, view: View) -> list[str]:
        """Policies to look at again."""
        found = {change.key for change in view.changes["redirect-policies"]}
        services = {change.key for change in view.changes["services"]} if self._policies else set()
        namespaces = {change.key.partition("/")[0] for change in view.changes["pods"]}
        namespaces |= {
            row.namespace for change in view.changes["endpoints"] for row in (change.old, change.new) if row is not None
        }
        found |= {
            name
            for name, policy in self._policies.items()
            if policy.namespace in namespaces or (policy.service and policy.service in services)
        }
        return sorted(found)

    def _redirect(self, policy: RedirectPolicy, selected: Selected, services: Snapshot[str, Service]) -> LocalRedirect:
        if policy.error:
            field, _, reason = policy.error.partition(": ")
            self._complain(policy, field, reason)
        places = self._of_service(policy, services) if policy.service else self._of_address(policy)
        mappings = [
            RedirectMapping(
                address=address,
                port=port.port,
                protocol=port.protocol,
                backends=tuple(
                    RedirectBackend(pod.key, ip, target.port)
                    for pod in selected.ready
                    for ip in pod.ips
                    if ip.version == address.version
                ),
            )
            for address, port, target in places
        ]
        return LocalRedirect(policy, tuple(mappings))

    def _of_address(self, policy: RedirectPolicy) -> Iterator[Place]:
        address = policy.address
        if address is None:
            return
        if address.version not in self._versions:
            where = f"{MATCHER}.addressMatcher.ip"
            self._complain(policy, where, f"{address} is IPv{address.version}, which this node does not speak")
            return
        for port in policy.ports:
            if (target := policy.target(port)) is not None:
                yield address, port, target

    def _of_service(self, policy: RedirectPolicy, services: Snapshot[str, Service]) -> Iterator[Place]:
        where = f"{MATCHER}.serviceMatcher"
        service = services.get(policy.service)
        if service is None:
            self._complain(policy, f"{where}.serviceName", f"Service {policy.service} does not exist")
            return
        if not service.cluster_ips:
            self._complain(policy, f"{where}.serviceName", f"Service {policy.service} has no cluster IP")
            return
        known = [RedirectPort(port.port, port.protocol, port.name.lower()) for port in service.ports]
        numbers = {(port.port, port.protocol) for port in known}
        for index, port in enumerate(policy.ports):
            if (port.port, port.protocol) not in numbers:
                message = f"Service {policy.service} has no port {port.port}/{port.protocol}"
                self._complain(policy, f"{where}.toPorts[{index}]", message)
        wanted = [port for port in policy.ports if (port.port, port.protocol) in numbers] if policy.ports else known
        pairs = [(port, target) for port in wanted if (target := policy.target(port)) is not None]
        if not pairs and not policy.ports:
            message = f"no port is for one of Service {policy.service}: several ports are joined by their names"
            self._complain(policy, "spec.redirectBackend.toPorts", message)
        for address in service.cluster_ips:
            if address.version in self._versions:
                yield from ((address, port, target) for port, target in pairs)

    def _complain(self, policy: RedirectPolicy, field: str, message: str) -> None:
        self._complaints.setdefault(policy.key, {})[field] = message

    def _rows(self, redirect: LocalRedirect, cookies: tuple[int, ...]) -> Iterator[Frontend]:
        policy = redirect.policy
        # Under the Service's own name it takes the place of the Service's row, under another it competes with others.
        service = policy.service or policy.key + REDIRECT_SUFFIX
        names = {(port.port, port.protocol): port.name for port in policy.ports}
        for place in redirect.mappings:
            if place.backends:
                yield Frontend(
                    address=place.address,
                    port=place.port,
                    protocol=place.protocol,
                    service=service,
                    port_name=names.get((place.port, place.protocol), ""),
                    kind=KIND,
                    backends=tuple(Backend(end.address, end.port, node=self._node) for end in place.backends),
                    scope=Scope.CLUSTER,
                    skip_netns=cookies,
                )

    def _cookies(self, policy: RedirectPolicy, selected: Selected, view: View) -> tuple[int, ...]:
        """What names the selected pods to the datapath; also those that are not ready: they may need what they stand
        for in order to become so.
        """
        found: set[int] = set()
        for pod in selected.all if policy.skip_backends else ():
            if pod.host_network:
                found.add(self._host_cookie)
            for endpoint in view.snapshots["endpoints"].by("pod", pod.key):
                found.add(1 << SkipBit.ENDPOINT | endpoint.id)  # to packets
                if endpoint.netns_cookie:
                    found.add(endpoint.netns_cookie)
                else:
                    message = f"pod {pod.key} was made by an earlier version and is redirected, too: recreate it"
                    self._complain(policy, "spec.skipRedirectFromBackend", message)
        return tuple(sorted(found))

    def _found(self, name: str) -> dict[str, str]:
        """Messages by field."""
        found = dict(self._complaints.get(name, {}))
        for key in self._claims.keys_of(name):
            owner, _ = self._claims.of(key)[0]
            if owner != name:
                address, port, protocol, _ = key
                found[MATCHER] = f"{address} {port}/{protocol} is redirected by {owner}, which is older"
        return found


def _by_namespace(pods: Iterable[Pod], wanted: Collection[str]) -> Mapping[str, Sequence[Pod]]:
    found: dict[str, list[Pod]] = {}
    if wanted:
        for pod in pods:
            if pod.namespace in wanted:
                found.setdefault(pod.namespace, []).append(pod)
    return found

"""What a kubelet may do: its node, its pods, and what these refer to.

Owns: the rules of the user `system:node:<node>` in the group system:nodes. Comes in: attributes; commits of pods. Goes
out: decisions. Source: Kubernetes documentation "Using Node Authorization".
"""

from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.authorization.attributes import Attributes, Decision
from kubelab.apiserver.authorization.roles import NODE_RULES
from kubelab.apiserver.authorization.rules import Rule
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change

Object = dict[str, Any]
Reference = tuple[str, str, str]
"""Resource, namespace, name."""

_REFERRED = ("secrets", "configmaps", "persistentvolumeclaims")
_READING = ("get", "list", "watch")


class NodeAuthorizer:
    """Construct it before the server accepts writes."""

    def __init__(self, store: Store) -> None:
        self._rules = [Rule.read(rule) for rule in NODE_RULES]
        self._nodes: dict[str, dict[tuple[str, str], frozenset[Reference]]] = {}
        for pod in store.peek_all("pods"):
            self._learn(pod)
        store.on_commit(self._observe)

    def decide(self, attributes: Attributes) -> Decision:
        node = attributes.user.node
        if not node or not attributes.resource:
            return Decision(False)
        asked = attributes
        if asked.group == "" and not asked.subresource and asked.resource in _REFERRED:
            return self._reading(node, asked)
        if (asked.group, asked.qualified) == ("", "serviceaccounts/token"):
            allowed = asked.verb == "create" and self._refers(node, ("serviceaccounts", asked.namespace, asked.name))
            return Decision(allowed) if allowed else _unrelated(asked)
        if asked.group == "coordination.k8s.io" and asked.resource == "leases":
            own = asked.namespace == "kube-node-lease" and asked.name in ("", node)
            return Decision(own and asked.verb in ("get", "create", "update", "patch", "delete"))
        atom = Rule((asked.verb,), (asked.group,), (asked.qualified,), (asked.name,) if asked.name else ())
        return Decision(any(rule.covers(atom) for rule in self._rules))

    def _reading(self, node: str, asked: Attributes) -> Decision:
        """The kubelet follows all ConfigMaps and Secrets in one watch each; single objects must be its pods'."""
        if asked.verb not in _READING:
            return Decision(False, "can only read resources of this type")
        if not asked.name:
            return Decision(asked.verb in ("list", "watch") and asked.resource in ("secrets", "configmaps"))
        return (
            Decision(True) if self._refers(node, (asked.resource, asked.namespace, asked.name)) else _unrelated(asked)
        )

    def _refers(self, node: str, reference: Reference) -> bool:
        return any(reference in references for references in self._nodes.get(node, {}).values())

    def _observe(self, resource: Resource, change: Change) -> None:
        if resource.key != "pods":
            return
        if change.type == "DELETED":
            pod = change.entry.object
            self._nodes.get(_node_of(pod), {}).pop(_key(pod), None)
        else:
            before = change.previous.object if change.previous else {}
            # Beside its node, nothing that a pod refers to can change.
            if _node_of(before) != _node_of(change.entry.object):
                self._learn(change.entry.object)

    def _learn(self, pod: Object) -> None:
        if node := _node_of(pod):
            namespace = pod["metadata"]["namespace"]
            found = frozenset((resource, namespace, name) for resource, name in references(pod["spec"]))
            self._nodes.setdefault(node, {})[_key(pod)] = found


def references(spec: Object) -> Iterator[tuple[str, str]]:
    """Resource and name of everything in its namespace that a pod refers to."""
    yield "serviceaccounts", spec.get("serviceAccountName") or "default"
    for entry in spec.get("imagePullSecrets") or ():
        yield "secrets", entry.get("name", "")
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume)
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _of_container(container)


def _of_volume(volume: Object) -> Iterator[tuple[str, str]]:
    if "secret" in volume:
        yield "secrets", volume["secret"].get("secretName", "")
    if "persistentVolumeClaim" in volume:
        yield "persistentvolumeclaims", volume["persistentVolumeClaim"].get("claimName", "")
    for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
        if "configMap" in source:
            yield "configmaps", source["configMap"].get("name", "")
        if "secret" in source and "name" in source["secret"]:
            yield "secrets", source["secret"]["name"]


def _of_container(container: Object) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        for field, resource in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if field in source:
                yield resource, source[field].get("name", "")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for field, resource in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
            if field in source:
                yield resource, source[field].get("name", "")


def _unrelated(asked: Attributes) -> Decision:
    return Decision(False, f"no relationship found between node '{asked.user.node}' and this object")


def _node_of(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]

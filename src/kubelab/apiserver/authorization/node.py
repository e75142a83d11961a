"""What a kubelet may do: its node, its pods, and what these refer to.

Owns: the rules of the user `system:node:<node>` in the group system:nodes. Comes in: attributes; commits of pods. Goes
out: decisions. Source: Kubernetes documentation "Using Node Authorization".
"""

from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.authorization.attributes import Attributes, Decision, selected
from kubelab.apiserver.authorization.roles import NODE_RULES
from kubelab.apiserver.authorization.rules import Rule
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change

Object = dict[str, Any]
Reference = tuple[str, str, str]
"""Resource, namespace, name."""

_CLAIMS = "persistentvolumeclaims"
_LEASE_VERBS = ("get", "create", "update", "patch", "delete")


class NodeAuthorizer:
    """Construct it before the server accepts writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules = [Rule.read(rule) for rule in NODE_RULES]
        self._nodes: dict[str, dict[tuple[str, str], frozenset[Reference]]] = {}
        for pod in store.peek_all("pods"):
            self._learn(pod)
        store.on_commit(self._observe)

    def decide(self, attributes: Attributes) -> Decision:
        node, asked = attributes.user.node, attributes
        if not node or not asked.resource:
            return Decision(False)
        match asked.group, asked.qualified:
            case "", ("secrets" | "configmaps"):
                return self._reading(node, asked)
            case "", "persistentvolumeclaims":
                return self._getting(node, asked)
            case "", "persistentvolumes":
                return self._volume(node, asked)
            case "", "serviceaccounts/token":
                if asked.verb != "create" or not asked.name:
                    return Decision(False, "can only create tokens for individual service accounts")
                return self._related(node, asked, "serviceaccounts")
            case "", "nodes" if asked.verb in ("get", "list", "watch"):
                return _own_node(node, asked)
            case "", "pods" if asked.verb in ("get", "list", "watch"):
                return self._pods(node, asked)
            case "coordination.k8s.io", "leases":
                own = asked.namespace == "kube-node-lease" and asked.name in ("", node)
                return Decision(own and asked.verb in _LEASE_VERBS)
        atom = Rule((asked.verb,), (asked.group,), (asked.qualified,), (asked.name,) if asked.name else ())
        return Decision(any(rule.covers(atom) for rule in self._rules))

    def _reading(self, node: str, asked: Attributes) -> Decision:
        """Single objects, also as a list or watch that selects them by name."""
        if asked.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked, asked.resource)

    def _getting(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        return self._related(node, asked, asked.resource)

    def _volume(self, node: str, asked: Attributes) -> Decision:
        """Those that claims of the node's pods are bound to."""
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        for references in self._nodes.get(node, {}).values():
            for resource, namespace, name in references:
                claim = self._store.peek(resource, name, namespace=namespace) if resource == _CLAIMS else None
                if claim is not None and claim["spec"].get("volumeName") == asked.name:
                    return Decision(True)
        return _unrelated(asked)

    def _pods(self, node: str, asked: Attributes) -> Decision:
        if asked.verb != "get" and selected(asked.fields, "spec.nodeName") == node:
            return Decision(True)
        if not asked.name:
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        mine = (asked.namespace, asked.name) in self._nodes.get(node, {})
        return Decision(True) if mine else _unrelated(asked)

    def _related(self, node: str, asked: Attributes, resource: str) -> Decision:
        if not asked.name:
            return Decision(False, "No Object name found")
        related = self._refers(node, (resource, asked.namespace, asked.name))
        return Decision(True) if related else _unrelated(asked)

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
            found = frozenset((resource, namespace, name) for resource, name in references(pod))
            self._nodes.setdefault(node, {})[_key(pod)] = found


def references(pod: Object) -> Iterator[tuple[str, str]]:
    """Resource and name of everything in its namespace that a pod refers to."""
    spec = pod["spec"]
    yield "serviceaccounts", spec.get("serviceAccountName") or "default"
    for entry in spec.get("imagePullSecrets") or ():
        yield "secrets", entry.get("name", "")
    for volume in spec.get("volumes") or ():
        yield from _of_volume(volume)
        if "ephemeral" in volume:
            yield _CLAIMS, f"{pod['metadata']['name']}-{volume['name']}"
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            yield from _of_container(container)


def _of_volume(volume: Object) -> Iterator[tuple[str, str]]:
    if "secret" in volume:
        yield "secrets", volume["secret"].get("secretName", "")
    if "persistentVolumeClaim" in volume:
        yield _CLAIMS, volume["persistentVolumeClaim"].get("claimName", "")
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


def _own_node(node: str, asked: Attributes) -> Decision:
    if asked.name == node:
        return Decision(True)
    what = f"'{asked.name}'" if asked.name else "all nodes"
    return Decision(False, f"node '{node}' cannot read {what}, only its own Node object")


def _unrelated(asked: Attributes) -> Decision:
    return Decision(False, f"no relationship found between node '{asked.user.node}' and this object")


def _node_of(pod: Object) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]

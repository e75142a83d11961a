"""A kubelet writes its own node and the pods on it, nothing else of that kind.

Comes in: writes of users in the group system:nodes. Goes out: Forbidden. What a kubelet may read is decided in
`authorization.node`. Source: Kubernetes documentation "Admission Controllers Reference", NodeRestriction.
"""

from kubelab.apiserver.admission.base import Plugin, Write
from kubelab.apiserver.admission.service_account import MIRROR
from kubelab.apiserver.errors import forbidden
from kubelab.apiserver.users import REQUESTER

_RESTRICTED_LABEL = "node-restriction.kubernetes.io/"


class NodeRestriction(Plugin):
    handles = frozenset({"nodes", "pods", "leases.coordination.k8s.io"})

    def validate(self, write: Write) -> None:
        user = REQUESTER.get()
        node = user.node if user else ""
        if not node:
            return
        match write.resource.key:
            case "nodes":
                self._node(write, node)
            case "pods":
                self._pod(write, node)
            case _:
                if write.obj["metadata"]["name"] != node:
                    raise _forbidden(
                        write, node, "can only access node lease with the same name as the requesting node"
                    )

    def _node(self, write: Write, node: str) -> None:
        name = write.obj["metadata"]["name"]
        if name != node:
            verb = "create" if write.creates else "modify"
            raise _forbidden(write, node, f"is not allowed to {verb} node {name!r}".replace("'", '"'))
        if write.old is not None and write.obj["spec"].get("taints") != write.old["spec"].get("taints"):
            raise _forbidden(write, node, "is not allowed to modify taints")
        old = ((write.old or {}).get("metadata") or {}).get("labels") or {}
        labels = write.obj["metadata"].get("labels") or {}
        changed = sorted(key for key in {*labels, *old} if _RESTRICTED_LABEL in key and labels.get(key) != old.get(key))
        if changed:
            raise _forbidden(write, node, f"is not allowed to modify labels: {', '.join(changed)}")

    def _pod(self, write: Write, node: str) -> None:
        if write.creates and MIRROR not in (write.obj["metadata"].get("annotations") or {}):
            name = write.obj["metadata"]["name"]
            raise _forbidden(
                write, node, f'can only create mirror pods: pod "{name}" does not have "{MIRROR}" annotation'
            )
        if (write.old or write.obj)["spec"].get("nodeName") != node:
            raise _forbidden(
                write, node, f"can only {'create' if write.creates else 'update'} pods with spec.nodeName set to itself"
            )


def _forbidden(write: Write, node: str, why: str) -> Exception:
    name, resource = write.obj["metadata"].get("name", ""), write.resource
    return forbidden(group=resource.group, plural=resource.plural, name=name, why=f'node "{node}" {why}')

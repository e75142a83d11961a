"""Pod Security Standards, by the labels of namespaces.

Comes in: pods, and workloads with a template. Goes out: Forbidden for a pod that violates the level that its namespace
enforces; warnings for pods and workloads that violate the level of `warn`.
Source: Kubernetes documentation "Pod Security Admission".
"""

from kubelab.apiserver.admission.base import Object, Plugin, Write
from kubelab.apiserver.admission.pod_security_checks import violations
from kubelab.apiserver.errors import forbidden
from kubelab.apiserver.users import warn

_PREFIX = "pod-security.kubernetes.io/"
_TEMPLATED = (
    "replicationcontrollers",
    "deployments.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "daemonsets.apps",
    "jobs.batch",
    "cronjobs.batch",
)


class PodSecurity(Plugin):
    handles = frozenset({"pods", *_TEMPLATED})

    def validate(self, write: Write) -> None:
        if write.subresource not in ("", "ephemeralcontainers"):
            return
        namespace = write.store.peek("namespaces", write.namespace)
        labels = (namespace or {"metadata": {}})["metadata"].get("labels") or {}
        enforced, warned = (_level(labels, mode) for mode in ("enforce", "warn"))
        if enforced == warned == "":
            return
        metadata, spec = _pod(write)
        if spec is None or (
            write.old is not None and spec == _pod(Write(write.resource, write.old, None, write.store))[1]
        ):
            return
        if write.resource.key == "pods" and enforced:
            found = violations(enforced, metadata, spec)
            if found:
                why = f'violates PodSecurity "{enforced}:{_version(labels, "enforce")}": {", ".join(found)}'
                raise forbidden(group="", plural="pods", name=write.obj["metadata"].get("name", ""), why=why)
        if warned and (found := violations(warned, metadata, spec)):
            warn(f'would violate PodSecurity "{warned}:{_version(labels, "warn")}": {", ".join(found)}')


def _level(labels: Object, mode: str) -> str:
    level = labels.get(_PREFIX + mode, "")
    return level if level in ("baseline", "restricted") else ""


def _version(labels: Object, mode: str) -> str:
    return labels.get(f"{_PREFIX}{mode}-version") or "latest"


def _pod(write: Write) -> tuple[Object, Object | None]:
    """Metadata and spec of the pod, or of the pods to come."""
    obj = write.obj
    if write.resource.key == "cronjobs.batch":
        obj = (obj.get("spec") or {}).get("jobTemplate") or {}
    if write.resource.key != "pods":
        obj = (obj.get("spec") or {}).get("template") or {}
    return obj.get("metadata") or {}, obj.get("spec")

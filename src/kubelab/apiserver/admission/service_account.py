"""Every pod runs as a service account that exists, and finds its token where clients look for it.

Comes in: a new pod. Goes out: the pod with its account, the account's imagePullSecrets and a projected volume with
token, CA and namespace; Forbidden when the account is missing.
Source: Kubernetes documentation "Managing Service Accounts", "ServiceAccount admission controller".
"""

import random
from collections.abc import Iterator

from kubelab.apiserver.accounts import DEFAULT
from kubelab.apiserver.admission.base import Object, Plugin, Write
from kubelab.apiserver.errors import forbidden

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
MIRROR = "kubernetes.io/config.mirror"
_SECONDS = 3607
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class ServiceAccountAdmission(Plugin):
    handles = frozenset({"pods"})

    def mutate(self, write: Write) -> None:
        spec = write.obj.get("spec")
        if not write.creates or not isinstance(spec, dict) or _is_mirror(write.obj):
            return
        name = spec.get("serviceAccountName") or DEFAULT
        account = write.store.peek("serviceaccounts", name, namespace=write.namespace)
        if account is None:
            why = f'error looking up service account {write.namespace}/{name}: serviceaccount "{name}" not found'
            raise forbidden(group="", plural="pods", name=write.obj["metadata"].get("name", ""), why=why)
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        if _automounts(spec, account):
            _mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(entry) for entry in account["imagePullSecrets"]]


def _is_mirror(pod: Object) -> bool:
    return MIRROR in (pod["metadata"].get("annotations") or {})


def _automounts(spec: Object, account: Object) -> bool:
    """The pod's word counts before the account's."""
    own, default = spec.get("automountServiceAccountToken"), account.get("automountServiceAccountToken")
    chosen = own if own is not None else default
    return chosen is not False


def _containers(spec: Object) -> Iterator[Object]:
    for kind in ("initContainers", "containers"):
        yield from (c for c in spec.get(kind) or () if isinstance(c, dict))


def _mount_token(spec: Object) -> None:
    """Into every container that has nothing there yet."""
    lacking = [
        container
        for container in _containers(spec)
        if all(mount.get("mountPath", "").rstrip("/") != TOKEN_PATH for mount in container.get("volumeMounts") or ())
    ]
    if not lacking:
        return
    name = "kube-api-access-" + "".join(random.choices(_LETTERS, k=5))
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": name, "projected": _sources()}]
    for container in lacking:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _sources() -> Object:
    namespace = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    return {
        "defaultMode": 0o644,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": _SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": namespace}]}},
        ],
    }

"""The roles and bindings that every cluster has.

Owns: the bootstrap ClusterRoles, ClusterRoleBindings, Roles and RoleBindings, and the rules of kubelets. Goes out:
manifests. `admin`, `edit` and `view` have no rules of their own: they are made of the `system:aggregate-to-*` roles and
of every other role that bears their label. Controllers run inside the server and need none.
Source: Kubernetes documentation "Using RBAC Authorization", "Default roles and role bindings".
"""

from collections.abc import Iterable
from typing import Any

from kubelab.apiserver.users import ACCOUNTS, AUTHENTICATED, MASTERS, UNAUTHENTICATED

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

READ = "get list watch"
CHANGE = "create delete deletecollection patch update"
WRITE = f"{CHANGE} {READ}"


def _rule(groups: str, resources: str, verbs: str, *, names: str = "") -> Object:
    """Words separated by spaces; `core` is the group without a name."""
    rule: Object = {
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
        "verbs": verbs.split(),
    }
    return {**rule, "resourceNames": names.split()} if names else rule


def _urls(urls: str, verbs: str = "get") -> Object:
    return {"nonResourceURLs": urls.split(), "verbs": verbs.split()}


EVERYTHING = (_rule("*", "*", "*"), _urls("*", "*"))
DISCOVERY = "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"
EVENTS = _rule("core events.k8s.io", "events", "create patch update")
REVIEWS = (
    _rule("authentication.k8s.io", "tokenreviews", "create"),
    _rule("authorization.k8s.io", "subjectaccessreviews", "create"),
)

NODE_RULES = (
    *REVIEWS,
    _rule("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    _rule("core", "services", READ),
    _rule("core", "nodes", f"create {READ}"),
    _rule("core", "nodes/status", "patch update"),
    _rule("core", "nodes", "patch update"),
    _rule("core", "pods", f"create delete {READ}"),
    _rule("core", "pods/status", "patch update"),
    _rule("core", "pods/eviction", "create"),
    EVENTS,
    _rule("core", "persistentvolumes", "get"),
    _rule("core", "endpoints", "get"),
    _rule("certificates.k8s.io", "certificatesigningrequests", f"create {READ}"),
    _rule("storage.k8s.io", "csidrivers", READ),
    _rule("node.k8s.io", "runtimeclasses", READ),
)

_WORKLOADS = (
    "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
    "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status"
)
_CHANGED_WORKLOADS = (
    "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets "
    "statefulsets/scale"
)

_VIEW = (
    _rule(
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
        READ,
    ),
    _rule(
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
        READ,
    ),
    _rule("core", "namespaces", READ),
    _rule("discovery.k8s.io", "endpointslices", READ),
    _rule("apps", _WORKLOADS, READ),
    _rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", READ),
    _rule("batch", "cronjobs cronjobs/status jobs jobs/status", READ),
    _rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", READ),
    _rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", READ),
)
_EDIT = (
    _rule("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", READ),
    _rule("core", "serviceaccounts", "impersonate"),
    _rule("core", "pods pods/attach pods/exec pods/portforward pods/proxy", CHANGE),
    _rule("core", "pods/eviction", "create"),
    _rule(
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
        CHANGE,
    ),
    _rule("core", "serviceaccounts/token", "create"),
    _rule("apps", _CHANGED_WORKLOADS, CHANGE),
    _rule("autoscaling", "horizontalpodautoscalers", CHANGE),
    _rule("batch", "cronjobs jobs", CHANGE),
    _rule("policy", "poddisruptionbudgets", CHANGE),
    _rule("networking.k8s.io", "ingresses networkpolicies", CHANGE),
    _rule("coordination.k8s.io", "leases", WRITE),
)
_ADMIN = (
    _rule("authorization.k8s.io", "localsubjectaccessreviews", "create"),
    _rule(GROUP, "rolebindings roles", WRITE),
)

_SCHEDULER = (
    EVENTS,
    _rule("coordination.k8s.io", "leases", "create get list patch update watch"),
    _rule("core", "nodes", READ),
    _rule("core", "pods", f"delete {READ}"),
    _rule("core", "bindings pods/binding", "create"),
    _rule("core", "pods/status", "patch update"),
    _rule("core", "replicationcontrollers services namespaces persistentvolumeclaims persistentvolumes", READ),
    _rule("apps", "replicasets statefulsets", READ),
    _rule("policy", "poddisruptionbudgets", READ),
    _rule("storage.k8s.io", "storageclasses csinodes csidrivers csistoragecapacities", READ),
    *REVIEWS,
)
_CONTROLLER_MANAGER = (
    EVENTS,
    _rule("coordination.k8s.io", "leases", "create get update"),
    _rule("core", "secrets serviceaccounts", "create delete get update"),
    _rule("core", "namespaces configmaps", "get"),
    _rule("core", "serviceaccounts/token", "create"),
    *REVIEWS,
    _rule("*", "*", "list watch"),
)

_ROLES: dict[str, tuple[Object, ...]] = {
    "cluster-admin": EVERYTHING,
    "system:discovery": (_urls(DISCOVERY),),
    "system:public-info-viewer": (_urls("/healthz /livez /readyz /version /version/"),),
    "system:monitoring": (_urls("/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),),
    "system:basic-user": (
        _rule("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "create"),
        _rule("authentication.k8s.io", "selfsubjectreviews", "create"),
    ),
    "system:auth-delegator": REVIEWS,
    "system:heapster": (
        _rule("core", "events namespaces nodes pods", READ),
        _rule("apps", "deployments", READ),
    ),
    "system:kubelet-api-admin": (
        _rule("core", "nodes", f"{READ} proxy"),
        _rule("core", "nodes/log nodes/metrics nodes/proxy nodes/stats", "*"),
    ),
    "system:node": NODE_RULES,
    "system:node-problem-detector": (
        _rule("core", "nodes", "get"),
        _rule("core", "nodes/status", "patch"),
        EVENTS,
    ),
    "system:node-proxier": (
        _rule("core", "endpoints services", "list watch"),
        _rule("core", "nodes", READ),
        EVENTS,
        _rule("discovery.k8s.io", "endpointslices", "list watch"),
    ),
    "system:persistent-volume-provisioner": (
        _rule("core", "persistentvolumes", f"create delete {READ}"),
        _rule("core", "persistentvolumeclaims", f"{READ} update"),
        _rule("storage.k8s.io", "storageclasses", READ),
        _rule("core", "events", "watch"),
        EVENTS,
    ),
    "system:kube-dns": (_rule("core", "endpoints services", "list watch"),),
    "system:coredns": (
        _rule("core", "endpoints namespaces pods services", "list watch"),
        _rule("discovery.k8s.io", "endpointslices", "list watch"),
    ),
    "system:service-account-issuer-discovery": (_urls("/.well-known/openid-configuration /openid/v1/jwks"),),
    "system:kube-scheduler": _SCHEDULER,
    "system:kube-controller-manager": _CONTROLLER_MANAGER,
    "system:volume-scheduler": (
        _rule("core", "persistentvolumes persistentvolumeclaims", f"patch update {READ}"),
        _rule("storage.k8s.io", "storageclasses", READ),
    ),
}
_PARTS = {"admin": _ADMIN, "edit": _EDIT, "view": _VIEW}

_BINDINGS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "cluster-admin": ("cluster-admin", (("Group", MASTERS),)),
    "system:monitoring": ("system:monitoring", (("Group", "system:monitoring"),)),
    "system:discovery": ("system:discovery", (("Group", AUTHENTICATED),)),
    "system:basic-user": ("system:basic-user", (("Group", AUTHENTICATED),)),
    "system:public-info-viewer": (
        "system:public-info-viewer",
        (("Group", AUTHENTICATED), ("Group", UNAUTHENTICATED)),
    ),
    "system:node-proxier": ("system:node-proxier", (("User", "system:kube-proxy"),)),
    "system:kube-controller-manager": (
        "system:kube-controller-manager",
        (("User", "system:kube-controller-manager"),),
    ),
    "system:kube-dns": ("system:kube-dns", (("ServiceAccount", "kube-dns"),)),
    "system:kube-scheduler": ("system:kube-scheduler", (("User", "system:kube-scheduler"),)),
    "system:volume-scheduler": ("system:volume-scheduler", (("User", "system:kube-scheduler"),)),
    "system:node": ("system:node", ()),
    "system:service-account-issuer-discovery": (
        "system:service-account-issuer-discovery",
        (("Group", ACCOUNTS),),
    ),
}


def cluster_roles() -> list[Object]:
    """Those that aggregate come last, each after what it is made of."""
    found = [_role(name, rules) for name, rules in _ROLES.items()]
    for name, rules in _PARTS.items():
        found.append(_role(f"system:aggregate-to-{name}", rules, {AGGREGATE + name: "true"}))
    for name, into in (("view", "edit"), ("edit", "admin"), ("admin", "")):
        role = _role(name, (), {AGGREGATE + into: "true"} if into else {})
        role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {AGGREGATE + name: "true"}}]}
        found.append(role)
    return found


def cluster_role_bindings() -> list[Object]:
    return [
        {
            "metadata": _metadata(name),
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            **({"subjects": [_subject(*subject) for subject in subjects]} if subjects else {}),
        }
        for name, (role, subjects) in _BINDINGS.items()
    ]


def _role(name: str, rules: Iterable[Object], labels: dict[str, str] | None = None) -> Object:
    return {"metadata": _metadata(name, labels or {}), "rules": [dict(rule) for rule in rules]}


def _metadata(name: str, labels: dict[str, str] | None = None) -> Object:
    return {"name": name, "labels": {**LABELS, **(labels or {})}, "annotations": dict(ANNOTATIONS)}


def _subject(kind: str, name: str) -> Object:
    if kind == "ServiceAccount":
        return {"kind": kind, "name": name, "namespace": "kube-system"}
    return {"apiGroup": GROUP, "kind": kind, "name": name}

"""The built-in kinds.

Owns: one row per built-in resource: names, scope, subresources, selectable fields. Goes out: rows for the registry.
Source: the discovery documents of Kubernetes.
"""

from kubelab.apiserver.resources import ALL_VERBS, Resource, Subresource

_READ_WRITE = ("get", "patch", "update")


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, _READ_WRITE)


def _proxy(kind: str) -> Subresource:
    return Subresource("proxy", f"{kind}ProxyOptions", ("create", "delete", "get", "patch", "update"))


_SCALE = Subresource("scale", "Scale", _READ_WRITE, group="autoscaling", version="v1")

_POD_SUBRESOURCES = (
    Subresource("attach", "PodAttachOptions", ("create", "get")),
    Subresource("binding", "Binding", ("create",)),
    Subresource("ephemeralcontainers", "Pod", _READ_WRITE),
    Subresource("eviction", "Eviction", ("create",), group="policy", version="v1"),
    Subresource("exec", "PodExecOptions", ("create", "get")),
    Subresource("log", "Pod", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
    _proxy("Pod"),
    _status("Pod"),
)
_POD_FIELDS = (
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
)
_EVENT_FIELDS = (
    *(
        f"involvedObject.{n}"
        for n in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
    ),
    "reason",
    "reportingComponent",
    "source",
    "type",
)


def _row(
    group: str,
    plural: str,
    kind: str,
    *,
    short: str = "",
    namespaced: bool = True,
    categories: tuple[str, ...] = (),
    subresources: tuple[Subresource, ...] = (),
    generation: bool = False,
    selectable: tuple[str, ...] = (),
    verbs: tuple[str, ...] = ALL_VERBS,
) -> Resource:
    return Resource(
        group=group,
        versions=("v1",),
        plural=plural,
        kind=kind,
        singular=kind.lower(),
        namespaced=namespaced,
        storage_version="v1",
        short_names=tuple(short.split()),
        categories=categories,
        subresources=subresources,
        generation=generation,
        selectable=selectable,
        verbs=verbs,
    )


def _core() -> list[Resource]:
    return [
        _row(
            "",
            "namespaces",
            "Namespace",
            short="ns",
            namespaced=False,
            subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
            selectable=("status.phase",),
        ),
        _row(
            "",
            "nodes",
            "Node",
            short="no",
            namespaced=False,
            subresources=(_proxy("Node"), _status("Node")),
            selectable=("spec.unschedulable",),
        ),
        _row(
            "",
            "pods",
            "Pod",
            short="po",
            categories=("all",),
            subresources=_POD_SUBRESOURCES,
            generation=True,
            selectable=_POD_FIELDS,
        ),
        _row(
            "",
            "services",
            "Service",
            short="svc",
            categories=("all",),
            subresources=(_proxy("Service"), _status("Service")),
            selectable=("spec.clusterIP", "spec.type"),
        ),
    ]


def _core_rest() -> list[Resource]:
    return [
        _row("", "endpoints", "Endpoints", short="ep"),
        _row("", "configmaps", "ConfigMap", short="cm"),
        _row("", "secrets", "Secret", selectable=("type",)),
        _row(
            "",
            "serviceaccounts",
            "ServiceAccount",
            short="sa",
            subresources=(
                Subresource("token", "TokenRequest", ("create",), group="authentication.k8s.io", version="v1"),
            ),
        ),
        _row("", "events", "Event", short="ev", selectable=_EVENT_FIELDS),
        _row(
            "",
            "replicationcontrollers",
            "ReplicationController",
            short="rc",
            categories=("all",),
            subresources=(_SCALE, _status("ReplicationController")),
            generation=True,
        ),
        _row("", "resourcequotas", "ResourceQuota", short="quota", subresources=(_status("ResourceQuota"),)),
        _row("", "limitranges", "LimitRange", short="limits"),
        _row(
            "",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            short="pvc",
            subresources=(_status("PersistentVolumeClaim"),),
        ),
        _row(
            "",
            "persistentvolumes",
            "PersistentVolume",
            short="pv",
            namespaced=False,
            subresources=(_status("PersistentVolume"),),
        ),
    ]


def _workloads() -> list[Resource]:
    rows = []
    for plural, kind, short in (
        ("deployments", "Deployment", "deploy"),
        ("replicasets", "ReplicaSet", "rs"),
        ("statefulsets", "StatefulSet", "sts"),
        ("daemonsets", "DaemonSet", "ds"),
    ):
        scale = () if kind == "DaemonSet" else (_SCALE,)
        rows.append(
            _row(
                "apps",
                plural,
                kind,
                short=short,
                categories=("all",),
                subresources=(*scale, _status(kind)),
                generation=True,
                selectable=("status.replicas",) if kind == "ReplicaSet" else (),
            )
        )
    rows.append(_row("apps", "controllerrevisions", "ControllerRevision"))
    for plural, kind, short in (("jobs", "Job", ""), ("cronjobs", "CronJob", "cj")):
        rows.append(
            _row(
                "batch",
                plural,
                kind,
                short=short,
                categories=("all",),
                subresources=(_status(kind),),
                generation=True,
                selectable=("status.successful",) if kind == "Job" else (),
            )
        )
    return rows


def _others() -> list[Resource]:
    rbac = "rbac.authorization.k8s.io"
    return [
        _row("discovery.k8s.io", "endpointslices", "EndpointSlice", generation=True),
        _row("networking.k8s.io", "networkpolicies", "NetworkPolicy", short="netpol", generation=True),
        _row(
            "networking.k8s.io",
            "ingresses",
            "Ingress",
            short="ing",
            subresources=(_status("Ingress"),),
            generation=True,
        ),
        _row("networking.k8s.io", "ingressclasses", "IngressClass", namespaced=False, generation=True),
        _row("coordination.k8s.io", "leases", "Lease"),
        _row(rbac, "roles", "Role"),
        _row(rbac, "rolebindings", "RoleBinding"),
        _row(rbac, "clusterroles", "ClusterRole", namespaced=False),
        _row(rbac, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
        _row("events.k8s.io", "events", "Event"),
        _row(
            "policy",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            short="pdb",
            subresources=(_status("PodDisruptionBudget"),),
            generation=True,
        ),
        _row("scheduling.k8s.io", "priorityclasses", "PriorityClass", short="pc", namespaced=False, generation=True),
        _row("storage.k8s.io", "storageclasses", "StorageClass", short="sc", namespaced=False),
        _row(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            short="crd crds",
            namespaced=False,
            categories=("api-extensions",),
            subresources=(_status("CustomResourceDefinition"),),
            generation=True,
        ),
    ]


def _reviews() -> list[Resource]:
    """Questions about users: answered (`reviews.py`), never stored."""
    authentication, authorization = "authentication.k8s.io", "authorization.k8s.io"
    return [
        _row(authentication, "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)),
        _row(authentication, "tokenreviews", "TokenReview", namespaced=False, verbs=("create",)),
        _row(authorization, "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=("create",)),
        _row(authorization, "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=("create",)),
        _row(authorization, "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False, verbs=("create",)),
        _row(authorization, "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=("create",)),
    ]


def builtin_resources() -> list[Resource]:
    return [*_core(), *_core_rest(), *_workloads(), *_others(), *_reviews()]

"""The built-in kinds.

Owns: one row per built-in resource: names, scope, subresources, selectable fields. Goes out: rows for the registry.
Source: the discovery documents of Kubernetes.
"""

from kubelab.apiserver.builtins_stored import stored_kinds
from kubelab.apiserver.resources import Resource, Subresource
from kubelab.apiserver.rows import READ_WRITE, proxy, row, status

_ENDPOINTS = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
_SCALE = Subresource("scale", "Scale", READ_WRITE, group="autoscaling", version="v1")

_POD_SUBRESOURCES = (
    Subresource("attach", "PodAttachOptions", ("create", "get")),
    Subresource("binding", "Binding", ("create",)),
    Subresource("ephemeralcontainers", "Pod", READ_WRITE),
    Subresource("eviction", "Eviction", ("create",), group="policy", version="v1"),
    Subresource("exec", "PodExecOptions", ("create", "get")),
    Subresource("log", "Pod", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
    proxy("Pod"),
    Subresource("resize", "Pod", READ_WRITE),
    status("Pod"),
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


def _core() -> list[Resource]:
    return [
        row(
            "",
            "namespaces",
            "Namespace",
            short="ns",
            namespaced=False,
            subresources=(Subresource("finalize", "Namespace", ("update",)), status("Namespace")),
            selectable=("status.phase",),
        ),
        row(
            "",
            "nodes",
            "Node",
            short="no",
            namespaced=False,
            subresources=(proxy("Node"), status("Node")),
            selectable=("spec.unschedulable",),
        ),
        row(
            "",
            "pods",
            "Pod",
            short="po",
            categories=("all",),
            subresources=_POD_SUBRESOURCES,
            generation=True,
            selectable=_POD_FIELDS,
        ),
        row(
            "",
            "services",
            "Service",
            short="svc",
            categories=("all",),
            subresources=(proxy("Service"), status("Service")),
            selectable=("spec.clusterIP", "spec.type"),
        ),
    ]


def _core_rest() -> list[Resource]:
    return [
        row("", "endpoints", "Endpoints", short="ep", deprecated=_ENDPOINTS),
        row("", "configmaps", "ConfigMap", short="cm"),
        row("", "secrets", "Secret", selectable=("type",)),
        row(
            "",
            "serviceaccounts",
            "ServiceAccount",
            short="sa",
            subresources=(
                Subresource("token", "TokenRequest", ("create",), group="authentication.k8s.io", version="v1"),
            ),
        ),
        row("", "events", "Event", short="ev", selectable=_EVENT_FIELDS),
        row(
            "",
            "replicationcontrollers",
            "ReplicationController",
            short="rc",
            categories=("all",),
            subresources=(_SCALE, status("ReplicationController")),
            generation=True,
        ),
        row("", "resourcequotas", "ResourceQuota", short="quota", subresources=(status("ResourceQuota"),)),
        row("", "limitranges", "LimitRange", short="limits"),
        row(
            "",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            short="pvc",
            subresources=(status("PersistentVolumeClaim"),),
        ),
        row(
            "",
            "persistentvolumes",
            "PersistentVolume",
            short="pv",
            namespaced=False,
            subresources=(status("PersistentVolume"),),
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
            row(
                "apps",
                plural,
                kind,
                short=short,
                categories=("all",),
                subresources=(*scale, status(kind)),
                generation=True,
                selectable=("status.replicas",) if kind == "ReplicaSet" else (),
            )
        )
    rows.append(row("apps", "controllerrevisions", "ControllerRevision"))
    for plural, kind, short in (("jobs", "Job", ""), ("cronjobs", "CronJob", "cj")):
        rows.append(
            row(
                "batch",
                plural,
                kind,
                short=short,
                categories=("all",),
                subresources=(status(kind),),
                generation=True,
                selectable=("status.successful",) if kind == "Job" else (),
            )
        )
    rows.append(
        row(
            "autoscaling",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            short="hpa",
            categories=("all",),
            subresources=(status("HorizontalPodAutoscaler"),),
            versions=("v2", "v1"),
        )
    )
    return rows


def _others() -> list[Resource]:
    rbac = "rbac.authorization.k8s.io"
    return [
        row("discovery.k8s.io", "endpointslices", "EndpointSlice", generation=True),
        row("networking.k8s.io", "networkpolicies", "NetworkPolicy", short="netpol", generation=True),
        row(
            "networking.k8s.io",
            "ingresses",
            "Ingress",
            short="ing",
            subresources=(status("Ingress"),),
            generation=True,
        ),
        row("networking.k8s.io", "ingressclasses", "IngressClass", namespaced=False, generation=True),
        row("coordination.k8s.io", "leases", "Lease"),
        row(rbac, "roles", "Role"),
        row(rbac, "rolebindings", "RoleBinding"),
        row(rbac, "clusterroles", "ClusterRole", namespaced=False),
        row(rbac, "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
        row("events.k8s.io", "events", "Event", short="ev", stored_as="events"),
        row(
            "policy",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            short="pdb",
            subresources=(status("PodDisruptionBudget"),),
            generation=True,
        ),
        row("scheduling.k8s.io", "priorityclasses", "PriorityClass", short="pc", namespaced=False, generation=True),
        row("storage.k8s.io", "storageclasses", "StorageClass", short="sc", namespaced=False),
        row(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            short="crd crds",
            namespaced=False,
            categories=("api-extensions",),
            subresources=(status("CustomResourceDefinition"),),
            generation=True,
        ),
    ]


def _reviews() -> list[Resource]:
    """Questions about users: answered (`reviews.py`), never stored."""
    authentication, authorization = "authentication.k8s.io", "authorization.k8s.io"
    return [
        row(authentication, "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)),
        row(authentication, "tokenreviews", "TokenReview", namespaced=False, verbs=("create",)),
        row(authorization, "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=("create",)),
        row(authorization, "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=("create",)),
        row(authorization, "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False, verbs=("create",)),
        row(authorization, "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=("create",)),
    ]


def builtin_resources() -> list[Resource]:
    return [*_core(), *_core_rest(), *_workloads(), *_others(), *stored_kinds(), *_reviews()]

"""Columns of the named groups: workloads, networking, discovery, RBAC, CRDs."""

from datetime import datetime

from kubelab import timestamps
from kubelab.apiserver.printers import storage
from kubelab.apiserver.printers.columns import (
    NONE,
    UNKNOWN,
    Column,
    Object,
    age,
    age_column,
    dig,
    duration,
    joined,
    name_column,
    pairs,
    path_column,
)
from kubelab.apiserver.selectors import to_text


def columns() -> dict[str, tuple[Column, ...]]:
    return {**_workloads(), **_jobs(), **_network(), **_rbac(), **_rest(), **storage.columns()}


def _count(name: str, path: str) -> Column:
    return path_column(name, path, default=0, type_="integer")


def _template() -> tuple[Column, ...]:
    def containers(obj: Object) -> list[Object]:
        found: list[Object] = dig(obj, "spec.template.spec.containers", [])
        return found

    return (
        Column("Containers", lambda o, _: joined(c["name"] for c in containers(o)), priority=1),
        Column("Images", lambda o, _: joined(c.get("image", "") for c in containers(o)), priority=1),
        Column("Selector", lambda o, _: to_text(dig(o, "spec.selector")) or NONE, priority=1),
    )


def _workloads() -> dict[str, tuple[Column, ...]]:
    name, aged, template = name_column(), age_column(), _template()

    def ready(obj: Object, _: datetime) -> str:
        return f"{dig(obj, 'status.readyReplicas', 0)}/{dig(obj, 'spec.replicas', 0)}"

    return {
        "deployments.apps": (
            name,
            Column("Ready", ready),
            _count("Up-to-date", "status.updatedReplicas"),
            _count("Available", "status.availableReplicas"),
            aged,
            *template,
        ),
        "replicasets.apps": (
            name,
            _count("Desired", "spec.replicas"),
            _count("Current", "status.replicas"),
            _count("Ready", "status.readyReplicas"),
            aged,
            *template,
        ),
        "statefulsets.apps": (name, Column("Ready", ready), aged, *template[:2]),
        "daemonsets.apps": (
            name,
            _count("Desired", "status.desiredNumberScheduled"),
            _count("Current", "status.currentNumberScheduled"),
            _count("Ready", "status.numberReady"),
            _count("Up-to-date", "status.updatedNumberScheduled"),
            _count("Available", "status.numberAvailable"),
            Column("Node Selector", lambda o, _: pairs(dig(o, "spec.template.spec.nodeSelector"))),
            aged,
            *template,
        ),
        "controllerrevisions.apps": (
            name,
            Column("Controller", _controller),
            path_column("Revision", "revision", type_="integer"),
            aged,
        ),
        "replicationcontrollers": (
            name,
            _count("Desired", "spec.replicas"),
            _count("Current", "status.replicas"),
            _count("Ready", "status.readyReplicas"),
            aged,
        ),
    }


def _jobs() -> dict[str, tuple[Column, ...]]:
    name, aged, template = name_column(), age_column(), _template()

    def state(job: Object, _: datetime) -> str:
        conditions = {c["type"] for c in dig(job, "status.conditions", []) if c.get("status") == "True"}
        known = ("Complete", "Failed")
        if found := next((kind for kind in known if kind in conditions), None):
            return found
        if "deletionTimestamp" in job["metadata"]:
            return "Terminating"
        later = ("Suspended", "FailureTarget", "SuccessCriteriaMet")
        return next((kind for kind in later if kind in conditions), "Running")

    def completions(job: Object, _: datetime) -> str:
        succeeded, wanted = dig(job, "status.succeeded", 0), dig(job, "spec.completions")
        if wanted is not None:
            return f"{succeeded}/{wanted}"
        parallel = dig(job, "spec.parallelism", 1)
        return f"{succeeded}/1 of {parallel}" if parallel > 1 else f"{succeeded}/1"

    def took(job: Object, now: datetime) -> str:
        start = dig(job, "status.startTime")
        end = dig(job, "status.completionTime")
        if not start:
            return ""
        return duration((((timestamps.parse(end)) if end else now) - timestamps.parse(start)).total_seconds())

    return {
        "jobs.batch": (
            name,
            Column("Status", state),
            Column("Completions", completions),
            Column("Duration", took),
            aged,
            *template,
        ),
        "cronjobs.batch": (
            name,
            path_column("Schedule", "spec.schedule"),
            path_column("Timezone", "spec.timeZone"),
            Column("Suspend", lambda o, _: str(bool(dig(o, "spec.suspend")))),
            Column("Active", lambda o, _: len(dig(o, "status.active", [])), type="integer"),
            Column("Last Schedule", lambda o, now: _since(dig(o, "status.lastScheduleTime"), now)),
            aged,
        ),
    }


def _network() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()

    def addresses(obj: Object, _: datetime) -> str:
        found = [a for e in obj.get("endpoints") or [] for a in e.get("addresses") or []]
        return joined(found, limit=3) if found else "<unset>"

    def ports(obj: Object, _: datetime) -> str:
        found = [str(p.get("port") or "*") for p in obj.get("ports") or []]
        return joined(found, limit=3) if found else "<unset>"

    def hosts(obj: Object, _: datetime) -> str:
        found = [r["host"] for r in dig(obj, "spec.rules", []) if r.get("host")]
        return joined(found, limit=3) if found else "*"

    def balancers(obj: Object, _: datetime) -> str:
        return ",".join(i.get("ip") or i.get("hostname", "") for i in dig(obj, "status.loadBalancer.ingress", []))

    return {
        "endpointslices.discovery.k8s.io": (
            name,
            path_column("AddressType", "addressType", default=""),
            Column("Ports", ports),
            Column("Endpoints", addresses),
            aged,
        ),
        "networkpolicies.networking.k8s.io": (
            name,
            Column("Pod-Selector", lambda o, _: to_text(dig(o, "spec.podSelector")) or NONE),
            aged,
        ),
        "ingresses.networking.k8s.io": (
            name,
            path_column("Class", "spec.ingressClassName"),
            Column("Hosts", hosts),
            Column("Address", balancers),
            Column("Ports", lambda o, _: "80, 443" if dig(o, "spec.tls") else "80"),
            aged,
        ),
        "ingressclasses.networking.k8s.io": (name, path_column("Controller", "spec.controller", default=""), aged),
        "leases.coordination.k8s.io": (name, path_column("Holder", "spec.holderIdentity", default=""), aged),
        "poddisruptionbudgets.policy": (
            name,
            path_column("Min Available", "spec.minAvailable", default="N/A"),
            path_column("Max Unavailable", "spec.maxUnavailable", default="N/A"),
            _count("Allowed Disruptions", "status.disruptionsAllowed"),
            aged,
        ),
    }


def _rbac() -> dict[str, tuple[Column, ...]]:
    name = name_column()
    created = path_column("Created At", "metadata.creationTimestamp", default="")

    def role(obj: Object, _: datetime) -> str:
        return f"{dig(obj, 'roleRef.kind', '')}/{dig(obj, 'roleRef.name', '')}"

    def subjects(kind: str) -> Column:
        def cell(obj: Object, _: datetime) -> str:
            found = [s for s in obj.get("subjects") or [] if s.get("kind") == kind]
            return ", ".join(f"{s['namespace']}/{s['name']}" if s.get("namespace") else s["name"] for s in found)

        title = {"User": "Users", "Group": "Groups", "ServiceAccount": "ServiceAccounts"}[kind]
        return Column(title, cell, priority=1)

    binding = (
        name,
        Column("Role", role),
        age_column(),
        *(subjects(kind) for kind in ("User", "Group", "ServiceAccount")),
    )
    return {
        "roles.rbac.authorization.k8s.io": (name, created),
        "clusterroles.rbac.authorization.k8s.io": (name, created),
        "rolebindings.rbac.authorization.k8s.io": binding,
        "clusterrolebindings.rbac.authorization.k8s.io": binding,
    }


def _rest() -> dict[str, tuple[Column, ...]]:
    name = name_column()
    return {
        "customresourcedefinitions.apiextensions.k8s.io": (
            name,
            path_column("Created At", "metadata.creationTimestamp", default=""),
        ),
        "priorityclasses.scheduling.k8s.io": (
            name,
            path_column("Value", "value", default=0, type_="integer"),
            path_column("Global-Default", "globalDefault", default=False, type_="boolean"),
            age_column(),
        ),
    }


def _controller(obj: Object, _: datetime) -> str:
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    if owner is None:
        return NONE
    group = owner["apiVersion"].rpartition("/")[0]
    return f"{owner['kind'].lower()}{'.' if group else ''}{group}/{owner['name']}"


def _since(timestamp: str | None, now: datetime) -> str:
    text = age(timestamp, now)
    return NONE if text == UNKNOWN else text

"""Columns of the kinds that the lab keeps and does not act upon (`builtins_stored.py`)."""

from datetime import datetime

from kubelab.apiserver.printers.columns import Column, Object, age_column, dig, joined, name_column, path_column

_ADMISSION = "admissionregistration.k8s.io"


def columns() -> dict[str, tuple[Column, ...]]:
    return {**_extensions(), **_kept()}


def _extensions() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()
    return {
        f"mutatingwebhookconfigurations.{_ADMISSION}": (name, _count("Webhooks", "webhooks"), aged),
        f"validatingwebhookconfigurations.{_ADMISSION}": (name, _count("Webhooks", "webhooks"), aged),
        f"validatingadmissionpolicies.{_ADMISSION}": (
            name,
            _count("Validations", "spec.validations"),
            path_column("ParamKind", "spec.paramKind.kind", default="<unset>"),
            aged,
        ),
        f"validatingadmissionpolicybindings.{_ADMISSION}": (
            name,
            path_column("PolicyName", "spec.policyName"),
            path_column("ParamRef", "spec.paramRef.name", default="<unset>"),
            aged,
        ),
        "apiservices.apiregistration.k8s.io": (
            name,
            Column("Service", _api_service),
            Column("Available", lambda o, _: _condition(o, "Available")),
            aged,
        ),
    }


def _kept() -> dict[str, tuple[Column, ...]]:
    name, aged = name_column(), age_column()
    return {
        "certificatesigningrequests.certificates.k8s.io": (
            name,
            aged,
            path_column("SignerName", "spec.signerName"),
            path_column("Requestor", "spec.username"),
            path_column("RequestedDuration", "spec.expirationSeconds"),
            Column("Condition", _request_state),
        ),
        "runtimeclasses.node.k8s.io": (name, path_column("Handler", "handler"), aged),
        "podtemplates": (
            name,
            Column("Containers", lambda o, _: joined(c["name"] for c in dig(o, "template.spec.containers", []))),
            Column("Images", lambda o, _: joined(c.get("image") for c in dig(o, "template.spec.containers", []))),
        ),
        "csidrivers.storage.k8s.io": (
            name,
            path_column("AttachRequired", "spec.attachRequired", default=True, type_="boolean"),
            path_column("PodInfoOnMount", "spec.podInfoOnMount", default=False, type_="boolean"),
            aged,
        ),
        "volumeattachments.storage.k8s.io": (
            name,
            path_column("Attacher", "spec.attacher"),
            path_column("PV", "spec.source.persistentVolumeName", default=""),
            path_column("Node", "spec.nodeName"),
            path_column("Attached", "status.attached", default=False, type_="boolean"),
            aged,
        ),
        "servicecidrs.networking.k8s.io": (name, Column("CIDRs", lambda o, _: joined(dig(o, "spec.cidrs", []))), aged),
    }


def _count(title: str, path: str) -> Column:
    return Column(title, lambda o, _: len(dig(o, path, [])), type="integer")


def _condition(obj: Object, kind: str) -> str:
    found = [c for c in dig(obj, "status.conditions", []) if c.get("type") == kind]
    return str(found[0]["status"]) if found else "Unknown"


def _api_service(obj: Object, _: datetime) -> str:
    service = dig(obj, "spec.service")
    return f"{service.get('namespace')}/{service.get('name')}" if service else "Local"


def _request_state(obj: Object, _: datetime) -> str:
    kinds = [c.get("type") for c in dig(obj, "status.conditions", [])]
    words = [w for w in ("Approved", "Denied", "Failed") if w in kinds] or ["Pending"]
    return ",".join([*words, *(["Issued"] if dig(obj, "status.certificate") else [])])

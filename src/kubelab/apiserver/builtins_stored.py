"""Built-in kinds that a lab keeps and shows, but that nothing in it acts upon.

Owns: their rows. Manifests and charts that bring them apply unchanged. Volumes of drivers are not attached. The rows
of what `admission` reads are here too.
"""

from kubelab.apiserver.resources import Resource, Subresource
from kubelab.apiserver.rows import READ_WRITE, row, status

_ADMISSION = "admissionregistration.k8s.io"
_STORAGE, _NETWORK, _FLOW = "storage.k8s.io", "networking.k8s.io", "flowcontrol.apiserver.k8s.io"


def stored_kinds() -> list[Resource]:
    return [*_admission(), *_extension(), *_storage(), *_rest()]


def _admission() -> list[Resource]:
    extensions = ("api-extensions",)
    rows = [
        row(_ADMISSION, plural, kind, namespaced=False, categories=extensions, generation=True)
        for plural, kind in (
            ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
            ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
            ("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        )
    ]
    kind = "ValidatingAdmissionPolicy"
    return [
        *rows,
        row(
            _ADMISSION,
            "validatingadmissionpolicies",
            kind,
            namespaced=False,
            categories=extensions,
            subresources=(status(kind),),
            generation=True,
        ),
    ]


def _extension() -> list[Resource]:
    service, request = "APIService", "CertificateSigningRequest"
    return [
        row(
            "apiregistration.k8s.io",
            "apiservices",
            service,
            namespaced=False,
            categories=("api-extensions",),
            subresources=(status(service),),
        ),
        row(
            "certificates.k8s.io",
            "certificatesigningrequests",
            request,
            short="csr",
            namespaced=False,
            subresources=(Subresource("approval", request, READ_WRITE), status(request)),
            selectable=("spec.signerName",),
        ),
    ]


def _storage() -> list[Resource]:
    return [
        row(_STORAGE, "csidrivers", "CSIDriver", namespaced=False, generation=True),
        row(_STORAGE, "csinodes", "CSINode", namespaced=False),
        row(_STORAGE, "csistoragecapacities", "CSIStorageCapacity"),
        row(
            _STORAGE,
            "volumeattachments",
            "VolumeAttachment",
            namespaced=False,
            subresources=(status("VolumeAttachment"),),
        ),
        row(_STORAGE, "volumeattributesclasses", "VolumeAttributesClass", short="vac", namespaced=False),
    ]


def _rest() -> list[Resource]:
    return [
        row("", "podtemplates", "PodTemplate", generation=True),
        row("node.k8s.io", "runtimeclasses", "RuntimeClass", namespaced=False),
        row(_NETWORK, "ipaddresses", "IPAddress", short="ip", namespaced=False),
        row(_NETWORK, "servicecidrs", "ServiceCIDR", namespaced=False, subresources=(status("ServiceCIDR"),)),
        row(
            _FLOW, "flowschemas", "FlowSchema", namespaced=False, subresources=(status("FlowSchema"),), generation=True
        ),
        row(
            _FLOW,
            "prioritylevelconfigurations",
            "PriorityLevelConfiguration",
            namespaced=False,
            subresources=(status("PriorityLevelConfiguration"),),
            generation=True,
        ),
    ]

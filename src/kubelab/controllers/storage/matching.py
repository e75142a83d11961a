"""Which volume suits which claim: pure functions shared by the binder and the scheduler.

In: PersistentVolumes, claims, classes, nodes as plain dicts. Out: facts.
Source: Kubernetes documentation, "Persistent Volumes", "Storage Classes".
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from kubelab.apiserver.selectors import from_spec
from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.controllers.scheduling import placement
from kubelab.quantities import quantity

CLAIMS, VOLUMES, CLASSES = "persistentvolumeclaims", "persistentvolumes", "storageclasses.storage.k8s.io"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def class_of(obj: Object) -> str:
    """The class that a claim or volume names; "": none."""
    return str(obj["spec"].get("storageClassName") or "")


def waits_for_consumer(storage_class: Object | None) -> bool:
    return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def provisions(storage_class: Object | None) -> bool:
    """Whether somebody makes volumes of this class."""
    return storage_class is not None and storage_class["provisioner"] != NO_PROVISIONER


def is_bound(claim: Object) -> bool:
    return bool(claim["spec"].get("volumeName")) and (claim.get("status") or {}).get("phase") == "Bound"


def means(reference: Object, claim: Object) -> bool:
    """Whether a volume's claimRef is this claim; without a uid it is a reservation by name."""
    namespace, name = objects.key_of(claim)
    same = (reference.get("namespace"), reference.get("name")) == (namespace, name)
    return same and reference.get("uid") in (None, "", objects.uid_of(claim))


def reaches(volume: Object, node: Object) -> bool:
    """Whether the volume can be used on the node."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return True
    return any(placement.term_holds(term, node) for term in required.get("nodeSelectorTerms") or ())


def suits(volume: Object, claim: Object) -> bool:
    """Whether the volume may be bound to the claim: free or reserved for it, of its class, large enough, usable so."""
    spec, wanted = volume["spec"], claim["spec"]
    reference = spec.get("claimRef")
    if objects.is_deleting(volume) or (reference is not None and not means(reference, claim)):
        return False
    if reference is None and (volume.get("status") or {}).get("phase") not in (None, "Pending", "Available"):
        return False
    selector = from_spec(wanted.get("selector"))
    return (
        class_of(volume) == class_of(claim)
        and set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ())
        and spec.get("volumeMode", "Filesystem") == wanted.get("volumeMode", "Filesystem")
        and size(volume) >= quantity(wanted["resources"]["requests"]["storage"])
        and (reference is not None or selector is None or selector.matches(objects.labels_of(volume)))
    )


def size(volume: Object) -> Decimal:
    return quantity(volume["spec"]["capacity"]["storage"])


def best(volumes: Iterable[Object], claim: Object, node: Object | None = None) -> Object | None:
    """The volume for the claim: one reserved for it, else the smallest; usable on `node`, if one is given."""
    found = [volume for volume in volumes if suits(volume, claim) and (node is None or reaches(volume, node))]
    return min(
        found,
        key=lambda volume: ("claimRef" not in volume["spec"], size(volume), volume["metadata"]["name"]),
        default=None,
    )

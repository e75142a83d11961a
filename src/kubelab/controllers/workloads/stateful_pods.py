"""The pods of a StatefulSet: their names, identity, claims and what they should look like.

In: StatefulSets, revisions, pods as plain dicts. Out: facts and new objects; pure functions.
Source: Kubernetes documentation, "StatefulSets".
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator

from kubelab.controllers import objects
from kubelab.controllers.objects import Object
from kubelab.controllers.workloads.revisions import HASH_LABEL

POD_NAME_LABEL, INDEX_LABEL = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"
_ORDINAL = re.compile(r"(.*)-([0-9]+)")


def ordinal_of(stateful_set: Object, pod: Object) -> int | None:
    """The pod's number within the set; None for a pod of another name."""
    match = _ORDINAL.fullmatch(pod["metadata"]["name"])
    if match is None or match[1] != stateful_set["metadata"]["name"]:
        return None
    return int(match[2])


def ordinals(stateful_set: Object) -> range:
    """The numbers of the pods that there should be."""
    spec = stateful_set["spec"]
    start = (spec.get("ordinals") or {}).get("start", 0)
    return range(start, start + spec.get("replicas", 1))


def claim_names(stateful_set: Object, ordinal: int) -> Iterator[tuple[Object, str]]:
    """Claim templates with the name of their claim for one pod."""
    for claim in stateful_set["spec"].get("volumeClaimTemplates") or ():
        yield claim, f"{claim['metadata']['name']}-{stateful_set['metadata']['name']}-{ordinal}"


def claim_for(stateful_set: Object, template: Object, name: str) -> Object:
    labels = (stateful_set["spec"].get("selector") or {}).get("matchLabels") or {}
    metadata = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": stateful_set["metadata"]["namespace"],
            "labels": {**(metadata.get("labels") or {}), **labels},
            **({"annotations": dict(metadata["annotations"])} if metadata.get("annotations") else {}),
        },
        "spec": copy.deepcopy(template["spec"]),
    }


def pod_for(stateful_set: Object, ordinal: int, revision: Object) -> Object:
    """The pod of a number, of the template that the revision holds."""
    name = f"{stateful_set['metadata']['name']}-{ordinal}"
    template = {k: v for k, v in revision["data"]["spec"]["template"].items() if k != "$patch"}
    labels = {HASH_LABEL: revision["metadata"]["name"], POD_NAME_LABEL: name, INDEX_LABEL: str(ordinal)}
    pod = objects.pod_from_template(template, owner=stateful_set, prefix="", labels=labels)
    del pod["metadata"]["generateName"]
    pod["metadata"]["name"] = name
    spec = pod["spec"]
    spec["hostname"], spec["subdomain"] = name, stateful_set["spec"].get("serviceName", "")
    if not spec["subdomain"]:
        del spec["subdomain"]
    claims = {
        claim["metadata"]["name"]: {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claimed}}
        for claim, claimed in claim_names(stateful_set, ordinal)
    }
    others = [volume for volume in spec.get("volumes") or () if volume["name"] not in claims]
    if claims or others:
        spec["volumes"] = [*claims.values(), *others]
    return pod


def revision_of(pod: Object) -> str:
    return objects.labels_of(pod).get(HASH_LABEL, "")


def claim_owner(stateful_set: Object, pod: Object | None, *, condemned: bool) -> Object | None:
    """Whose end is the claim's end, by the retention policy: the set's, the pod's, or None: nobody's."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    deleted, scaled = policy.get("whenDeleted", "Retain"), policy.get("whenScaled", "Retain")
    if condemned and scaled == "Delete":
        return pod
    return stateful_set if deleted == "Delete" else None

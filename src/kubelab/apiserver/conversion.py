"""One object under two groups or versions.

Owns: the two forms of an Event, which the core group and events.k8s.io name differently: the store keeps the core form;
and where the versions of a built-in kind are converted. Comes in and goes out: objects, field selectors.
Source: Kubernetes API reference, Event v1 and Event v1 events.k8s.io.
"""

import re
from typing import Any

from kubelab.apiserver import conversion_autoscaling
from kubelab.apiserver.requests import Target

Object = dict[str, Any]
_CORE_TO_EVENTS = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_EVENTS_TO_CORE = {new: old for old, new in _CORE_TO_EVENTS.items()}


def to_stored(obj: Object, target: Target) -> Object:
    """What a client sent, in the form in which it is kept."""
    if target.resource.key == conversion_autoscaling.KEY and not is_stored(target):
        return conversion_autoscaling.to_v2(obj)
    if not target.resource.stored_as:
        return obj
    return {**_renamed(obj, _EVENTS_TO_CORE), "apiVersion": "v1", "kind": "Event"}


def from_stored(obj: Object, target: Target) -> Object:
    """What is kept, as the asked group and version show it."""
    if target.resource.key == conversion_autoscaling.KEY and not is_stored(target):
        return conversion_autoscaling.from_v2(obj)
    if not target.resource.stored_as:
        return obj
    return {**_renamed(obj, _CORE_TO_EVENTS), "apiVersion": target.resource.api_version(target.version)}


def fields_to_stored(selector: str, target: Target) -> str:
    """A field selector with the names of the stored form."""
    if not target.resource.stored_as:
        return selector
    return re.sub(r"[^,=!.]+", lambda m: _EVENTS_TO_CORE.get(m[0], m[0]), selector)


def is_stored(target: Target) -> bool:
    """Whether the stored JSON is what the client wants to see, whatever the object."""
    resource = target.resource
    return not resource.stored_as and not resource.several and target.version == resource.storage_version


def _renamed(obj: Object, names: dict[str, str]) -> Object:
    return {names.get(name, name): value for name, value in obj.items()}

"""The webhooks of all configurations, as they are now.

Comes in: commits of MutatingWebhookConfigurations and ValidatingWebhookConfigurations. Goes out: the webhooks that are
concerned with a write, in the order in which they are asked: configurations by name, webhooks as they stand in them.
"""

from dataclasses import dataclass
from typing import Any

from kubelab.apiserver.admission.base import Write
from kubelab.apiserver.admission.webhooks.rules import Match
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change

Object = dict[str, Any]
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook. `uid` tells it from one of the same name."""

    uid: str
    spec: Object
    match: Match

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def ignores_failure(self) -> bool:
        return self.spec.get("failurePolicy") == "Ignore"

    @property
    def reinvoked(self) -> bool:
        return self.spec.get("reinvocationPolicy") == "IfNeeded"

    @property
    def conditions(self) -> list[Object]:
        return self.spec.get("matchConditions") or []


class Configurations:
    """Construct it before the server accepts writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        self._concerned: dict[tuple[str, str, str], tuple[Hook, ...]] = {}
        for kind in (MUTATING, VALIDATING):
            self._read(kind)
        store.on_commit(self._observe)

    @property
    def none(self) -> bool:
        return not self._hooks

    def mutating(self, write: Write) -> tuple[Hook, ...]:
        return self._of(MUTATING, write)

    def validating(self, write: Write) -> tuple[Hook, ...]:
        return self._of(VALIDATING, write)

    def _of(self, kind: str, write: Write) -> tuple[Hook, ...]:
        key = (kind, write.resource.key, write.subresource)
        found = self._concerned.get(key)
        if found is None:
            found = tuple(hook for hook in self._hooks.get(kind, ()) if hook.match.concerns(write))
            self._concerned[key] = found
        return found

    def _observe(self, resource: Resource, _: Change) -> None:
        if resource.key in (MUTATING, VALIDATING):
            self._read(resource.key)

    def _read(self, kind: str) -> None:
        hooks: list[Hook] = []
        for configuration in sorted(self._store.peek_all(kind), key=lambda obj: str(obj["metadata"]["name"])):
            for place, spec in enumerate(configuration.get("webhooks") or ()):
                uid = f"{configuration['metadata']['name']}/{spec['name']}/{place}"
                hooks.append(Hook(uid, spec, Match.read(spec)))
        self._concerned.clear()
        self._hooks.pop(kind, None)
        if hooks:
            self._hooks[kind] = tuple(hooks)

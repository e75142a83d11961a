"""Roles and bindings: defaults, and what they must say."""

from collections.abc import Iterator

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, unsupported

_GROUP = "rbac.authorization.k8s.io"
_SUBJECT_GROUPS = {"ServiceAccount": "", "User": _GROUP, "Group": _GROUP}


class RoleStrategy(NamedStrategy):
    urls_allowed = False

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        for index, rule in enumerate(obj.get("rules") or ()):
            causes += self._rule_causes(rule, f"rules[{index}]")
        return causes

    def _rule_causes(self, rule: Object, path: str) -> Iterator[Cause]:
        if not rule.get("verbs"):
            yield required(f"{path}.verbs", "verbs must contain at least one value")
        urls = rule.get("nonResourceURLs")
        if urls:
            if not self.urls_allowed:
                why = "namespaced rules cannot apply to non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", urls, why)
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                yield invalid_value(f"{path}.nonResourceURLs", urls, why)
            return
        if not rule.get("apiGroups"):
            yield required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{path}.resources", "resource rules must supply at least one resource")


class ClusterRoleStrategy(RoleStrategy):
    urls_allowed = True


class BindingStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        reference = obj.get("roleRef")
        if isinstance(reference, dict):
            reference.setdefault("apiGroup", _GROUP)
        for subject in obj.get("subjects") or ():
            group = _SUBJECT_GROUPS.get(subject.get("kind", ""))
            if group and not subject.get("apiGroup"):
                subject["apiGroup"] = group

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        reference = obj.get("roleRef")
        if not isinstance(reference, dict):
            return causes
        kinds = ("Role", "ClusterRole") if self.resource.namespaced else ("ClusterRole",)
        if reference.get("apiGroup") != _GROUP:
            causes.append(unsupported("roleRef.apiGroup", reference.get("apiGroup"), (_GROUP,)))
        if reference.get("kind") not in kinds:
            causes.append(unsupported("roleRef.kind", reference.get("kind"), kinds))
        if not reference.get("name"):
            causes.append(required("roleRef.name"))
        if old is not None and reference != old.get("roleRef"):
            causes.append(invalid_value("roleRef", reference, "cannot change roleRef"))
        for index, subject in enumerate(obj.get("subjects") or ()):
            causes += _subject_causes(subject, f"subjects[{index}]")
        return causes


def _subject_causes(subject: Object, path: str) -> Iterator[Cause]:
    kind = subject.get("kind", "")
    if not subject.get("name"):
        yield required(f"{path}.name")
    if kind not in _SUBJECT_GROUPS:
        yield unsupported(f"{path}.kind", kind, tuple(sorted(_SUBJECT_GROUPS)))
    elif (subject.get("apiGroup") or "") != _SUBJECT_GROUPS[kind]:
        yield unsupported(f"{path}.apiGroup", subject.get("apiGroup"), (_SUBJECT_GROUPS[kind],))
    if kind == "ServiceAccount" and not subject.get("namespace"):
        yield required(f"{path}.namespace")

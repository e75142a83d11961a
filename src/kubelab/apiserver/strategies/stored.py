"""Kinds that the lab keeps and does not act upon: their defaults, and what they must say.

Source: Kubernetes API reference of admissionregistration.k8s.io/v1, scheduling.k8s.io/v1,
storage.k8s.io/v1, apiregistration.k8s.io/v1, node.k8s.io/v1.
"""

from collections.abc import Iterator
from typing import Any

from kubelab.apiserver.cel.checks import condition_causes, policy_causes
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, selector_causes, unsupported
from kubelab.apiserver.strategies.pods import default_pod_spec

_ADMISSION = "admissionregistration.k8s.io"
_HIGHEST_PRIORITY = 1_000_000_000


def forbidden(field: str, why: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {why}")


class WebhookStrategy(NamedStrategy):
    """Validating and mutating configurations."""

    def default(self, obj: Object) -> None:
        mutates = self.resource.kind.startswith("Mutating")
        for webhook in obj.get("webhooks") or ():
            for field, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
                webhook.setdefault(field, value)
            webhook.setdefault("namespaceSelector", {})
            webhook.setdefault("objectSelector", {})
            if mutates:
                webhook.setdefault("reinvocationPolicy", "Never")
            for rule in webhook.get("rules") or ():
                rule.setdefault("scope", "*")
            service = (webhook.get("clientConfig") or {}).get("service")
            if isinstance(service, dict):
                service.setdefault("port", 443)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        for index, webhook in enumerate(obj.get("webhooks") or ()):
            causes += _webhook_causes(webhook, f"webhooks[{index}]")
        return causes

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return obj.get("webhooks") != old.get("webhooks")


def _webhook_causes(webhook: Object, path: str) -> Iterator[Cause]:
    name = str(webhook.get("name") or "")
    if name and (name.count(".") < 2 or any(names.subdomain(name))):
        yield invalid_value(f"{path}.name", name, "should be a domain with at least three segments separated by dots")
    client = webhook.get("clientConfig") or {}
    if bool(client.get("url")) == bool(client.get("service")):
        yield required(f"{path}.clientConfig", "exactly one of url or service is required")
    if webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
        yield unsupported(f"{path}.sideEffects", webhook.get("sideEffects"), ("None", "NoneOnDryRun"))
    if not 1 <= webhook["timeoutSeconds"] <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        yield invalid_value(f"{path}.timeoutSeconds", webhook["timeoutSeconds"], why)
    if webhook["failurePolicy"] not in ("Fail", "Ignore"):
        yield unsupported(f"{path}.failurePolicy", webhook["failurePolicy"], ("Fail", "Ignore"))
    if not set(webhook.get("admissionReviewVersions") or ()) & {"v1", "v1beta1"}:
        shown = list(webhook.get("admissionReviewVersions") or ())
        why = "must include at least one of v1, v1beta1"
        yield invalid_value(f"{path}.admissionReviewVersions", shown, why)
    yield from _match_causes(webhook, path)
    yield from condition_causes(webhook.get("matchConditions"), f"{path}.matchConditions")


def _match_causes(matches: Object | None, path: str) -> Iterator[Cause]:
    """Of a webhook, of what a policy or a binding matches."""
    for field in ("namespaceSelector", "objectSelector"):
        yield from selector_causes((matches or {}).get(field), f"{path}.{field}")


class AdmissionPolicyStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            return
        if self.resource.kind == "ValidatingAdmissionPolicy":
            spec.setdefault("failurePolicy", "Fail")
        matches = spec.get("matchConstraints") or spec.get("matchResources")
        if isinstance(matches, dict):
            matches.setdefault("matchPolicy", "Equivalent")
            matches.setdefault("namespaceSelector", {})
            matches.setdefault("objectSelector", {})
            for rule in matches.get("resourceRules") or ():
                rule.setdefault("scope", "*")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes, spec = super().validate(obj, old), obj.get("spec")
        if not isinstance(spec, dict):
            return [*causes, required("spec")]
        if self.resource.kind == "ValidatingAdmissionPolicy":
            return [
                *causes,
                *_match_causes(spec.get("matchConstraints"), "spec.matchConstraints"),
                *policy_causes(spec),
            ]
        causes += _match_causes(spec.get("matchResources"), "spec.matchResources")
        causes += selector_causes((spec.get("paramRef") or {}).get("selector"), "spec.paramRef.selector")
        if not spec.get("policyName"):
            causes.append(required("spec.policyName"))
        if not spec.get("validationActions"):
            causes.append(required("spec.validationActions"))
        return causes


class PriorityClassStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        name, value = obj["metadata"].get("name", ""), obj.get("value") or 0
        if name.startswith("system-") and name not in ("system-cluster-critical", "system-node-critical"):
            why = "priority class names with 'system-' prefix are reserved for system use only"
            causes.append(forbidden("metadata.name", why))
        elif value > _HIGHEST_PRIORITY and not name.startswith("system-"):
            why = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
            causes.append(forbidden("value", why))
        if old is not None:
            causes += _fixed(obj, old, ("value", "preemptionPolicy"), "may not be changed in an update.")
        return causes

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return False


class RuntimeClassStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        if obj.get("handler"):
            causes += [invalid_value("handler", obj["handler"], why) for why in names.label(obj["handler"])]
        if old is not None and obj.get("handler") != old.get("handler"):
            causes.append(invalid_value("handler", obj.get("handler"), "field is immutable"))
        return causes


class DriverStrategy(NamedStrategy):
    """CSIDriver."""

    def default(self, obj: Object) -> None:
        spec: Any = obj.get("spec")
        if not isinstance(spec, dict):
            return
        for field, value in (
            ("attachRequired", True),
            ("podInfoOnMount", False),
            ("storageCapacity", False),
            ("fsGroupPolicy", "ReadWriteOnceWithFSType"),
            ("requiresRepublish", False),
            ("seLinuxMount", False),
        ):
            spec.setdefault(field, value)
        spec.setdefault("volumeLifecycleModes", ["Persistent"])


class ApiServiceStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        service = (obj.get("spec") or {}).get("service")
        if isinstance(service, dict):
            service.setdefault("port", 443)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec, name = obj.get("spec") or {}, obj["metadata"].get("name", "")
        wanted = f"{spec.get('version', '')}.{spec.get('group', '')}"
        if name != wanted:
            why = f'must be `spec.version+"."+spec.group`: "{wanted}"'
            causes.append(invalid_value("metadata.name", name, why))
        return causes


class PodTemplateStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        default_pod_spec((obj.get("template") or {}).get("spec"))

    def spec_changed(self, obj: Object, old: Object) -> bool:
        return obj.get("template") != old.get("template")


class IngressClassStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        controller = (obj.get("spec") or {}).get("controller")
        if old is not None and controller != (old.get("spec") or {}).get("controller"):
            causes.append(invalid_value("spec.controller", controller, "field is immutable"))
        return causes


class EventStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        about, space = obj.get("involvedObject") or {}, obj["metadata"].get("namespace", "")
        named = about.get("namespace", "")
        if named != space and not (named == "" and space == "default") and "namespace" in about:
            causes.append(invalid_value("involvedObject.namespace", named, "does not match event.namespace"))
        return causes


def _fixed(obj: Object, old: Object, fields: tuple[str, ...], why: str) -> list[Cause]:
    return [forbidden(field, why) for field in fields if obj.get(field) != old.get(field)]


STRATEGIES: dict[str, type[NamedStrategy]] = {
    f"mutatingwebhookconfigurations.{_ADMISSION}": WebhookStrategy,
    f"validatingwebhookconfigurations.{_ADMISSION}": WebhookStrategy,
    f"validatingadmissionpolicies.{_ADMISSION}": AdmissionPolicyStrategy,
    f"validatingadmissionpolicybindings.{_ADMISSION}": AdmissionPolicyStrategy,
    "priorityclasses.scheduling.k8s.io": PriorityClassStrategy,
    "runtimeclasses.node.k8s.io": RuntimeClassStrategy,
    "csidrivers.storage.k8s.io": DriverStrategy,
    "apiservices.apiregistration.k8s.io": ApiServiceStrategy,
    "podtemplates": PodTemplateStrategy,
    "ingressclasses.networking.k8s.io": IngressClassStrategy,
    "events": EventStrategy,
}

"""Webhooks and admission policies of users: their defaults, and what they must say.

Source: Kubernetes API reference of admissionregistration.k8s.io/v1.
"""

from collections.abc import Iterator

from kubelab.apiserver.cel.checks import condition_causes, policy_causes
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, selector_causes, unsupported

_GROUP = "admissionregistration.k8s.io"


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
            constraints = _match_causes(spec.get("matchConstraints"), "spec.matchConstraints")
            return [*causes, *constraints, *policy_causes(spec)]
        causes += _match_causes(spec.get("matchResources"), "spec.matchResources")
        causes += selector_causes((spec.get("paramRef") or {}).get("selector"), "spec.paramRef.selector")
        if not spec.get("policyName"):
            causes.append(required("spec.policyName"))
        if not spec.get("validationActions"):
            causes.append(required("spec.validationActions"))
        return causes


STRATEGIES: dict[str, type[NamedStrategy]] = {
    f"mutatingwebhookconfigurations.{_GROUP}": WebhookStrategy,
    f"validatingwebhookconfigurations.{_GROUP}": WebhookStrategy,
    f"validatingadmissionpolicies.{_GROUP}": AdmissionPolicyStrategy,
    f"validatingadmissionpolicybindings.{_GROUP}": AdmissionPolicyStrategy,
}

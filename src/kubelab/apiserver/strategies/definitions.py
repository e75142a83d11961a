"""CustomResourceDefinitions: defaults, validation, acceptance of names.

Owns: the rules of CRDs themselves. Comes in: a CRD. Goes out: the CRD with accepted names and the conditions
NamesAccepted and Established, or causes.
"""

import re
from typing import Any

from kubelab import timestamps
from kubelab.apiserver import jsonpath
from kubelab.apiserver.cel.rules import faults
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value, required, unsupported

CRDS = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
_COLUMN_TYPES = ("integer", "number", "string", "boolean", "date")


def is_established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


class DefinitionStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        spec = obj.get("spec")
        if not isinstance(spec, dict) or not isinstance(spec.get("names"), dict):
            return
        names = spec["names"]
        if names.get("kind"):
            names.setdefault("singular", names["kind"].lower())
            names.setdefault("listKind", names["kind"] + "List")
        conversion = spec.setdefault("conversion", {"strategy": "None"})
        service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
        if isinstance(service, dict):
            service.setdefault("port", 443)

    def prepare_create(self, obj: Object, store: Reader) -> None:
        obj.pop("status", None)
        if self.validate(obj, None):
            return
        finalizers = obj["metadata"].get("finalizers", [])
        obj["metadata"]["finalizers"] = finalizers if CLEANUP in finalizers else [*finalizers, CLEANUP]
        obj["status"] = _accept(obj, None, store)

    def prepare_update(self, obj: Object, old: Object, store: Reader) -> None:
        if not self.validate(obj, old):
            obj["status"] = _accept(obj, old, store)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        spec = obj.get("spec") or {}
        names = spec.get("names") or {}
        missing = [required(f"spec.{f}") for f in ("group", "scope", "versions") if not spec.get(f)]
        missing += [required(f"spec.names.{f}") for f in ("plural", "kind") if not names.get(f)]
        if missing:
            return causes + missing
        wanted = f"{names['plural']}.{spec['group']}"
        name = obj["metadata"].get("name", "")
        if name != wanted:
            causes.append(invalid_value("metadata.name", name, f'must be spec.names.plural+"."+spec.group: {wanted}'))
        if spec["scope"] not in ("Namespaced", "Cluster"):
            message = f'Unsupported value: "{spec["scope"]}": supported values: "Cluster", "Namespaced"'
            causes.append(Cause("spec.scope", "FieldValueNotSupported", message))
        if not _LABEL.match(names["plural"]):
            causes.append(
                invalid_value("spec.names.plural", names["plural"], "want lower case letters, digits and '-'")
            )
        if sum(bool(v.get("storage")) for v in spec["versions"]) != 1:
            causes.append(
                invalid_value(
                    "spec.versions", len(spec["versions"]), "must have exactly one version marked as storage version"
                )
            )
        causes += _check_conversion(spec.get("conversion") or {})
        for index, version in enumerate(spec["versions"]):
            causes += _check_version(version, f"spec.versions[{index}]")
        if old is not None and is_established(old):
            for path in ("group", "scope"):
                if spec.get(path) != old["spec"].get(path):
                    causes.append(invalid_value(f"spec.{path}", spec.get(path), "field is immutable"))
        return causes

    def holds_deletion(self, obj: Object) -> bool:
        return False


def _check_conversion(conversion: Object) -> list[Cause]:
    path, strategy, webhook = "spec.conversion", conversion.get("strategy"), conversion.get("webhook")
    if strategy not in ("None", "Webhook"):
        return [unsupported(f"{path}.strategy", strategy, ("None", "Webhook"))]
    if strategy == "None":
        why = "Forbidden: should not be set when strategy is not set to Webhook"
        return [Cause(f"{path}.webhook", "FieldValueForbidden", why)] if webhook else []
    client = (webhook or {}).get("clientConfig")
    if not client:
        return [required(f"{path}.webhook.clientConfig", "required when strategy is set to Webhook")]
    causes = []
    if bool(client.get("url")) == bool(client.get("service")):
        causes.append(required(f"{path}.webhook.clientConfig", "exactly one of url or service is required"))
    versions = (webhook or {}).get("conversionReviewVersions") or []
    if not {"v1", "v1beta1"} & set(versions):
        why = "must include at least one of v1, v1beta1"
        causes.append(invalid_value(f"{path}.webhook.conversionReviewVersions", versions, why))
    return causes


def _check_version(version: Object, path: str) -> list[Cause]:
    causes = []
    if not _LABEL.match(version.get("name", "")):
        causes.append(invalid_value(f"{path}.name", version.get("name", ""), "want a DNS label such as v1alpha1"))
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
    elif not isinstance(schema, dict) or schema.get("type") != "object":
        causes.append(
            invalid_value(
                f"{path}.schema.openAPIV3Schema.type", (schema or {}).get("type", ""), "must be object at the root"
            )
        )
    else:
        causes += _check_schema(schema, f"{path}.schema.openAPIV3Schema")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{path}.additionalPrinterColumns[{index}]"
        if column.get("type") not in _COLUMN_TYPES:
            causes.append(invalid_value(f"{where}.type", column.get("type"), f"want one of {', '.join(_COLUMN_TYPES)}"))
        try:
            jsonpath.parse(column.get("jsonPath", ""))
        except ValueError as error:
            causes.append(invalid_value(f"{where}.jsonPath", column.get("jsonPath"), str(error)))
    return causes


def _check_schema(schema: Any, path: str) -> list[Cause]:
    """A structural schema types every node."""
    causes = list(faults(schema, path))
    open_type = schema.get("x-kubernetes-int-or-string") or schema.get("x-kubernetes-preserve-unknown-fields")
    if not schema.get("type") and not open_type:
        causes.append(required(f"{path}.type", "must not be empty for specified object fields"))
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            causes.append(
                invalid_value(f"{path}.pattern", schema["pattern"], f"must be a valid regular expression: {error}")
            )
    for name, child in (schema.get("properties") or {}).items():
        causes += _check_schema(child, f"{path}.properties[{name}]")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            causes += _check_schema(schema[name], f"{path}.{name}")
    if schema.get("type") == "array" and "items" not in schema:
        causes.append(required(f"{path}.items", "must be specified for arrays"))
    return causes


def _accept(crd: Object, old: Object | None, store: Reader) -> Object:
    """The status: accepted names unless another CRD of the group holds one of them."""
    names = crd["spec"]["names"]
    taken = _conflict(crd, store)
    now = timestamps.now()
    before = {c["type"]: c for c in ((old or {}).get("status") or {}).get("conditions") or ()}

    def condition(kind: str, good: bool, reason: str, message: str) -> Object:
        status = "True" if good else "False"
        known = before.get(kind)
        since = known["lastTransitionTime"] if known and known["status"] == status else now
        return {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}

    versions = ((old or {}).get("status") or {}).get("storedVersions") or []
    storage = next(v["name"] for v in crd["spec"]["versions"] if v.get("storage"))
    return {
        "conditions": [
            condition(
                "NamesAccepted", not taken, "NoConflicts" if not taken else "Conflict", taken or "no conflicts found"
            ),
            condition(
                "Established",
                not taken,
                "InitialNamesAccepted" if not taken else "NotAccepted",
                "the initial names have been accepted" if not taken else "not all names are accepted",
            ),
        ],
        "acceptedNames": names if not taken else {"plural": "", "kind": ""},
        "storedVersions": versions if storage in versions else [*versions, storage],
    }


def _conflict(crd: Object, store: Reader) -> str:
    names, group = crd["spec"]["names"], crd["spec"]["group"]
    mine = {names["plural"], names["singular"], *(names.get("shortNames") or ())}
    for other in store.peek_all(CRDS):
        theirs = other["spec"]["names"]
        if other["spec"]["group"] != group or other["metadata"]["name"] == crd["metadata"]["name"]:
            continue
        if theirs["kind"] == names["kind"]:
            return f'"{names["kind"]}" is already in use'
        common = mine & {theirs["plural"], theirs["singular"], *(theirs.get("shortNames") or ())}
        if common:
            return f'"{min(common)}" is already in use'
    return ""

"""Custom resources: pruning, defaulting and validation by the schema of their storage version."""

from kubelab.apiserver.cel.rules import Validator, blocked
from kubelab.apiserver.decoding import Cleaner
from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies.base import Object, Strategy
from kubelab.apiserver.strategies.common import metadata_causes
from kubelab.apiserver.structural import apply_defaults, changed_only, validate


class CustomStrategy(Strategy):
    rules: Validator | None = None
    """The validation rules of the schema, if it has any."""

    def default(self, obj: Object) -> None:
        if self.node is not None:
            apply_defaults(obj, self.node)

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = list(metadata_causes(obj["metadata"], self.resource))
        if self.node is not None:
            self._prune(obj)
            causes += changed_only(validate(obj, self.node), obj, old)
        return self._ruled(causes, obj, old)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        causes: list[Cause] = []
        status = self.node.child("status") if self.node is not None else None
        if status is not None and "status" in obj:
            apply_defaults(obj["status"], status)
            causes += changed_only(validate(obj["status"], status, "status"), obj, old)
        return self._ruled(causes, obj, old)

    def _ruled(self, causes: list[Cause], obj: Object, old: Object | None) -> list[Cause]:
        """With what validation rules say of an object that has the right shape."""
        if self.rules is None:
            return causes
        block = blocked(causes)
        return [*causes, block] if block else [*causes, *self.rules.violations(obj, old)]

    def status_update(self, obj: Object, old: Object) -> Object:
        """Only the status: the metadata of custom objects does not change by this door."""
        merged = {**old}
        merged.pop("status", None)
        if "status" in obj:
            merged["status"] = obj["status"]
        return {**merged, "metadata": dict(old["metadata"])}

    def spec_changed(self, obj: Object, old: Object) -> bool:
        ignored = {"metadata", "apiVersion", "kind", *(("status",) if self.resource.has_status else ())}
        return {k: v for k, v in obj.items() if k not in ignored} != {k: v for k, v in old.items() if k not in ignored}

    def _prune(self, obj: Object) -> None:
        """In-process callers have not passed the decoder; their unknown fields go as well."""
        cleaner = Cleaner(self.resource.kind, check_types=False)
        cleaned = cleaner.clean(obj, self.node)
        obj.clear()
        obj.update(cleaned)

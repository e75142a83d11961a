"""ConfigMaps and Secrets."""

import base64
import binascii

from kubelab.apiserver.errors import Cause
from kubelab.apiserver.strategies import names
from kubelab.apiserver.strategies.base import Object, Reader
from kubelab.apiserver.strategies.common import NamedStrategy, invalid_value

_MAX_BYTES = 1024 * 1024


class ConfigMapStrategy(NamedStrategy):
    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        for field in ("data", "binaryData"):
            causes += _key_causes(obj.get(field) or {}, field)
        causes += [
            invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
            for key in (obj.get("data") or {}).keys() & (obj.get("binaryData") or {}).keys()
        ]
        size = sum(len(v) for field in ("data", "binaryData") for v in (obj.get(field) or {}).values())
        if size > _MAX_BYTES:
            causes.append(Cause("", "FieldValueTooLong", f"Too long: may not be more than {_MAX_BYTES} bytes"))
        return causes + _immutable_causes(obj, old, ("data", "binaryData"))


class SecretStrategy(NamedStrategy):
    def default(self, obj: Object) -> None:
        obj.setdefault("type", "Opaque")
        plain = obj.pop("stringData", None)
        if plain:
            encoded = {k: base64.b64encode(str(v).encode()).decode() for k, v in plain.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}

    def prepare_create(self, obj: Object, store: Reader) -> None:
        """Secrets have no status."""

    def validate(self, obj: Object, old: Object | None) -> list[Cause]:
        causes = super().validate(obj, old)
        causes += _key_causes(obj.get("data") or {}, "data")
        for key, value in (obj.get("data") or {}).items():
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError, TypeError):
                causes.append(
                    invalid_value(f"data[{key}]", "<hidden>", "illegal base64 data; use stringData for plain text")
                )
        if old is not None and obj.get("type") != old.get("type"):
            causes.append(invalid_value("type", obj.get("type"), "field is immutable"))
        return causes + _immutable_causes(obj, old, ("data",))


def _key_causes(data: Object, field: str) -> list[Cause]:
    return [invalid_value(f"{field}[{key}]", key, why) for key in data for why in names.config_key(key)]


def _immutable_causes(obj: Object, old: Object | None, fields: tuple[str, ...]) -> list[Cause]:
    if old is None or not old.get("immutable"):
        return []
    why = "Forbidden: field is immutable when `immutable` is set"
    changed = [f for f in fields if obj.get(f) != old.get(f)]
    if not obj.get("immutable"):
        changed.append("immutable")
    return [Cause(field, "FieldValueForbidden", why) for field in changed]

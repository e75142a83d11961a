"""One schema: every setting with its Helm paths, its `cilium-config` key, type, default, unit and meaning.

A setting is declared once, as the field of a group (`*_groups.py`), by `setting(...)`. In: the groups. Out:
`Entry` rows, from which values files, the ConfigMap, flags, checks and the reference documentation are
derived.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cilium.settings.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What the declaration of a field says."""

    kind: Kind[Any]
    meaning: str
    key: str = ""
    """Key in `cilium-config` and name of the flag; empty: only the installation manifests use it."""
    helm: tuple[str, ...] = ()
    """Paths in a values file; the first is the one that errors and documentation name."""
    unit: str = ""
    when: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Keys of other settings and the text they must have: otherwise a value other than the default
    contradicts them.
    """
    environment: str = ""
    """A variable beside CILIUM_<KEY>."""
    per_process: bool = False
    """Differs between processes, so it is no part of the ConfigMap."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A setting in its place: one object per setting, so it serves as a key."""

    group: str
    field: str
    setting: Setting
    default: Any

    @property
    def name(self) -> str:
        """What people call it: the Helm path, or the key if the chart has none."""
        return self.setting.helm[0] if self.setting.helm else self.setting.key

    @property
    def flag(self) -> str:
        """What a ConfigMap and a command line call it: the key, or the Helm path of what only manifests use."""
        return self.setting.key or self.name

    @property
    def variables(self) -> tuple[str, ...]:
        """Environment variables, the stronger first."""
        if not self.setting.key:
            return ()
        own = "CILIUM_" + self.setting.key.upper().replace("-", "_")
        return (own, self.setting.environment) if self.setting.environment else (own,)


def setting(
    kind: Kind[T],
    *,
    default: T,
    meaning: str,
    key: str = "",
    helm: tuple[str, ...] = (),
    unit: str = "",
    when: Mapping[str, str] | None = None,
    environment: str = "",
    per_process: bool = False,
) -> T:
    """Declares the field of a group. Typed as its value, because that is what readers of the field get."""
    declared = Setting(kind, meaning, key, helm, unit, dict(when or {}), environment, per_process)
    field: Any = dataclasses.field(default=default, metadata={"setting": declared})
    value: T = field
    return value


def entries(settings_type: type[Any]) -> tuple[Entry, ...]:
    """Every setting of a dataclass of groups, in declaration order."""
    groups = [field for field in dataclasses.fields(settings_type) if "group" in field.metadata]
    return tuple(
        Entry(group.name, field.name, field.metadata["setting"], field.default)
        for group in groups
        for field in dataclasses.fields(group.metadata["group"])
    )


def group(group_type: type[T]) -> T:
    """Declares a group as the field of the settings, with its defaults."""
    field: Any = dataclasses.field(default_factory=group_type, metadata={"group": group_type})
    value: T = field
    return value

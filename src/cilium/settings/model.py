"""`Settings`: all groups together, as a composition root receives them.

In: typed values by (group, field). Out: one frozen object; where each value came from rides along for error
texts and `cilium-dbg config`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cilium.settings import datapath_groups, network_groups, process_groups, service_groups
from cilium.settings.schema import Entry, entries, group


@dataclass(frozen=True)
class Settings:
    cluster: network_groups.ClusterSettings = group(network_groups.ClusterSettings)
    families: network_groups.FamilySettings = group(network_groups.FamilySettings)
    ipam: network_groups.IpamSettings = group(network_groups.IpamSettings)
    routing: network_groups.RoutingSettings = group(network_groups.RoutingSettings)
    masquerade: network_groups.MasqueradeSettings = group(network_groups.MasqueradeSettings)
    services: service_groups.ServiceSettings = group(service_groups.ServiceSettings)
    policy: datapath_groups.PolicySettings = group(datapath_groups.PolicySettings)
    host_firewall: datapath_groups.HostFirewallSettings = group(datapath_groups.HostFirewallSettings)
    identity: datapath_groups.IdentitySettings = group(datapath_groups.IdentitySettings)
    conntrack: datapath_groups.ConntrackSettings = group(datapath_groups.ConntrackSettings)
    maps: datapath_groups.MapSettings = group(datapath_groups.MapSettings)
    events: datapath_groups.EventSettings = group(datapath_groups.EventSettings)
    hubble: process_groups.HubbleSettings = group(process_groups.HubbleSettings)
    health: process_groups.HealthSettings = group(process_groups.HealthSettings)
    metrics: process_groups.MetricsSettings = group(process_groups.MetricsSettings)
    log: process_groups.LogSettings = group(process_groups.LogSettings)
    process: process_groups.ProcessSettings = group(process_groups.ProcessSettings)
    kubernetes: process_groups.KubernetesSettings = group(process_groups.KubernetesSettings)
    cni: process_groups.CniSettings = group(process_groups.CniSettings)
    operator: process_groups.OperatorSettings = group(process_groups.OperatorSettings)
    install: process_groups.InstallSettings = group(process_groups.InstallSettings)
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Name of a setting -> where its value came from; settings with their default are absent."""

    @property
    def masquerade_ipv4(self) -> bool:
        return self.masquerade.ipv4 and self.families.ipv4

    @property
    def masquerade_ipv6(self) -> bool:
        return self.masquerade.ipv6 and self.families.ipv6

    def value(self, entry: Entry) -> Any:
        return getattr(getattr(self, entry.group), entry.field)

    def text(self, entry: Entry) -> str:
        """The value as `cilium-config` and flags write it."""
        return str(entry.setting.kind.format(self.value(entry)))


@functools.cache
def schema() -> tuple[Entry, ...]:
    """Every setting there is."""
    return entries(Settings)


@functools.cache
def by_key() -> Mapping[str, Entry]:
    return {entry.setting.key: entry for entry in schema() if entry.setting.key}


def build(values: Mapping[Entry, Any], origins: Mapping[Entry, str]) -> Settings:
    """Settings with these values, the rest being defaults."""
    by_group: dict[str, dict[str, Any]] = {}
    for entry, value in values.items():
        by_group.setdefault(entry.group, {})[entry.field] = value
    defaults = Settings()
    chosen = {name: type(getattr(defaults, name))(**fields) for name, fields in by_group.items()}
    return Settings(**chosen, origins={entry.name: origin for entry, origin in origins.items()})

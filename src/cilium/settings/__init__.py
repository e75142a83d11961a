"""Every setting, once: Helm path, `cilium-config` key, flag, type, default, unit and meaning (law 8).

In: values files, a ConfigMap's data or mounted directory, flags and variables. Out: `Settings`, small frozen
groups, checked; or `SettingsError` with every problem, its path and the way out.
"""

from cilium.settings.datapath_groups import (
    AllowLocalhost,
    DenyResponse,
    MonitorAggregation,
    PolicyEnforcement,
    PolicySettings,
)
from cilium.settings.errors import Problem, SettingsError
from cilium.settings.kinds import split_address
from cilium.settings.model import Settings
from cilium.settings.network_groups import IpamMode, RoutingMode, TunnelProtocol
from cilium.settings.process import (
    Overlay,
    from_config_dir,
    from_config_map,
    from_flags,
    to_config_map,
    with_overlays,
)
from cilium.settings.service_groups import (
    Acceleration,
    DsrDispatch,
    LoadBalancerAlgorithm,
    LoadBalancerMode,
    NoBackendResponse,
)
from cilium.settings.values import from_values, load_values, read_values

__all__ = [
    "Acceleration",
    "AllowLocalhost",
    "DenyResponse",
    "DsrDispatch",
    "IpamMode",
    "LoadBalancerAlgorithm",
    "LoadBalancerMode",
    "MonitorAggregation",
    "NoBackendResponse",
    "Overlay",
    "PolicyEnforcement",
    "PolicySettings",
    "Problem",
    "RoutingMode",
    "Settings",
    "SettingsError",
    "TunnelProtocol",
    "from_config_dir",
    "from_config_map",
    "from_flags",
    "from_values",
    "load_values",
    "read_values",
    "split_address",
    "to_config_map",
    "with_overlays",
]

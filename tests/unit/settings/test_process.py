"""Flags, environment, ConfigMap and directory: precedence, round trip, and the place an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium.settings import SettingsError, from_config_dir, from_config_map, from_flags, from_values, to_config_map
from cilium.settings.model import schema


def write(directory: Path, data: dict[str, str]) -> None:
    """As a mounted ConfigMap: keys are links into a hidden directory."""
    hidden = directory / "..data"
    hidden.mkdir(parents=True)
    for key, text in data.items():
        (hidden / key).write_text(text)
        (directory / key).symlink_to(f"..data/{key}")


CHANGED = {
    "ipam": {"operator": {"clusterPoolIPv4PodCIDRList": ["10.1.0.0/16", "10.2.0.0/16"], "clusterPoolIPv4MaskSize": 25}},
    "routingMode": "native",
    "ipv6NativeRoutingCIDR": "fd00::/48",
    "autoDirectNodeRoutes": True,
    "bpf": {"monitorInterval": "500ms"},
    "labels": "k8s:app !k8s:pod-template-hash",
    "devices": ["eth0", "eth1"],
    "hubble": {"listenAddress": "[::]:4244"},
}


def test_config_map_round_trip(tmp_path: Path) -> None:
    settings = from_values(CHANGED)
    data = to_config_map(settings)
    assert data["cluster-pool-ipv4-cidr"] == "10.1.0.0/16 10.2.0.0/16"
    assert data["monitor-aggregation-interval"] == "500ms"
    assert from_config_map(data) == settings
    write(tmp_path / "map", data)
    assert from_config_dir(tmp_path / "map") == settings


def test_defaults_round_trip_and_every_shared_key_is_written() -> None:
    data = to_config_map(from_values({}))
    assert from_config_map(data) == from_values({})
    assert {entry.setting.key for entry in schema() if entry.setting.key and not entry.setting.per_process} == set(data)
    assert "node-name" not in data


def test_precedence(tmp_path: Path) -> None:
    write(tmp_path / "map", {"mtu": "1400", "debug": "true", "tunnel-port": "1"})
    argv = [f"--config-dir={tmp_path / 'map'}", "--mtu", "1600"]
    settings = from_flags(argv, environ={"CILIUM_MTU": "1500", "CILIUM_TUNNEL_PORT": "2", "K8S_NODE_NAME": "n1"})
    assert settings.routing.mtu == 1600
    assert settings.routing.port == 2
    assert settings.log.debug
    assert settings.process.node_name == "n1"
    assert settings.origins["MTU"] == "--mtu"
    assert settings.origins["tunnelPort"] == "$CILIUM_TUNNEL_PORT"
    assert settings.origins["debug.enabled"] == str(tmp_path / "map" / "debug")


def test_errors_name_the_place_that_won(tmp_path: Path) -> None:
    write(tmp_path / "map", {"enable-ipv4": "false", "frob": "1", "enable-encryption": "true"})
    with pytest.raises(SettingsError) as caught:
        from_flags(["--tunel-port=1", "x"], environ={"CILIUM_CONFIG_DIR": str(tmp_path / "map"), "CILIUM_MTU": "big"})
    found = {problem.where: problem for problem in caught.value.problems}
    assert "did you mean 'tunnel-port'" in found["--tunel-port"].remedy
    assert found["$CILIUM_MTU"].message == "'big' is not valid"
    assert found[str(tmp_path / "map" / "frob")].message == "unknown setting"
    assert "not available" in found[str(tmp_path / "map" / "enable-encryption")].message
    assert "x" in found


def test_contradictions_name_files(tmp_path: Path) -> None:
    write(tmp_path / "map", {"enable-ipv4": "false", "enable-ipv6": "false"})
    with pytest.raises(SettingsError) as caught:
        from_config_dir(tmp_path / "map")
    assert caught.value.problems[0].where == str(tmp_path / "map" / "enable-ipv4")
    assert str(tmp_path / "map" / "enable-ipv6") in caught.value.problems[0].remedy


def test_a_lone_boolean_flag_is_true() -> None:
    assert from_flags(["--debug", "--mtu=1500"], environ={}).log.debug
    with pytest.raises(SettingsError, match="write --mtu=VALUE"):
        from_flags(["--mtu"], environ={})


def test_foreign_variables_are_no_settings() -> None:
    assert from_flags([], environ={"CILIUM_AGENT_SERVICE_HOST": "10.0.0.1"}) == from_values({})


def test_missing_directory() -> None:
    with pytest.raises(SettingsError, match="--config-dir=/none/such"):
        from_flags(["--config-dir", "/none/such"], environ={})

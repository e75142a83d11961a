"""CiliumNodeConfigs over cilium-config: the last wins, what is wrong is named, and the rest is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from unit.settings.test_process import write

from cilium.settings import Overlay, with_overlays


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    write(tmp_path / "map", {"mtu": "1400", "policy-audit-mode": "false"})
    return [f"--config-dir={tmp_path / 'map'}"]


def test_later_objects_win_and_processes_win_over_all(argv: list[str]) -> None:
    first = Overlay("CiliumNodeConfig kube-system/a", {"mtu": "1500", "debug": "true", "tunnel-port": "1"})
    second = Overlay("CiliumNodeConfig kube-system/b", {"mtu": "1600", "policy-audit-mode": "true"})
    settings, problems = with_overlays([*argv, "--tunnel-port=2"], [first, second], environ={})
    assert not problems
    assert (settings.routing.mtu, settings.log.debug, settings.policy.audit, settings.routing.port) == (
        1600, True, True, 2,
    )  # fmt: skip
    assert settings.origins["MTU"] == "CiliumNodeConfig kube-system/b: mtu"


def test_what_cannot_be_used_is_named_and_the_rest_is_used(argv: list[str]) -> None:
    data = {"policy-audit-mood": "true", "mtu": "large", "node-name": "n2", "debug": "true"}
    settings, problems = with_overlays(argv, [Overlay("CiliumNodeConfig kube-system/a", data)], environ={})
    assert (settings.log.debug, settings.routing.mtu) == (True, 1400)
    assert sorted(problem.where for problem in problems) == [
        f"CiliumNodeConfig kube-system/a: {key}" for key in ("mtu", "node-name", "policy-audit-mood")
    ]
    assert "did you mean 'policy-audit-mode'?" in "".join(map(str, problems))


def test_an_object_that_contradicts_the_rest_is_not_used_at_all(argv: list[str]) -> None:
    bad = Overlay("CiliumNodeConfig kube-system/a", {"enable-ipv4": "false", "enable-ipv6": "false", "mtu": "1500"})
    good = Overlay("CiliumNodeConfig kube-system/b", {"debug": "true"})
    settings, problems = with_overlays(argv, [bad, good], environ={})
    assert (settings.families.ipv4, settings.routing.mtu, settings.log.debug) == (True, 1400, True)
    assert {problem.where for problem in problems} == {bad.source}
    assert "nothing of it is used: CiliumNodeConfig kube-system/a: enable-ipv" in problems[0].message

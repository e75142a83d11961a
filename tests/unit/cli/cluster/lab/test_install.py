"""What `cilium lab` makes of a user's values, and how it speaks of mistakes."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from cilium.cli.cluster.lab.common import errors
from cilium.cli.cluster.lab.install import error_in, install, load_settings, refuse_overlaps, wait_for_cilium
from cilium.cli.cluster.main import main
from cilium.settings import Settings, SettingsError, from_values
from kubelab.lab.errors import LabError


def values(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("content", "tcp", "other"),
    [
        (None, 65536, 32768),
        ({"cluster": {"name": "c1"}}, 65536, 32768),
        ({"bpf": {"ctTcpMax": 131072}}, 131072, 32768),
        ({"bpf": {"ctTcpMax": 2048, "ctAnyMax": 4096, "natMax": 1024}}, 2048, 4096),
    ],
)
def test_the_users_values_are_stronger_than_the_labs(tmp_path: Path, content: Any, tcp: int, other: int) -> None:
    settings = load_settings(None if content is None else values(tmp_path, content))
    assert (settings.conntrack.tcp_max, settings.conntrack.any_max) == (tcp, other)


def test_a_mistake_in_the_values_names_file_and_path(tmp_path: Path) -> None:
    path = values(tmp_path, {"bpf": {"ctTcpMx": 1}})
    with pytest.raises(SettingsError, match=r"(?s)values\.yaml.*bpf\.ctTcpMx: unknown setting"):
        load_settings(path)
    answer = CliRunner().invoke(main, ["lab", "up", "--values", str(path)])
    assert answer.exit_code == 1
    assert "bpf.ctTcpMx: unknown setting" in answer.output


def test_pods_have_the_families_of_the_lab(tmp_path: Path) -> None:
    assert load_settings(None, families=(6,)).families.versions == (6,)
    assert load_settings(values(tmp_path, {"ipv6": {"enabled": False}})).families.versions == (4,)
    with pytest.raises(SettingsError, match=r"(?s)values\.yaml.*ipv4\.enabled: the lab does not have this family"):
        load_settings(values(tmp_path, {"ipv4": {"enabled": True}}), families=(6,))


@pytest.mark.parametrize(
    ("chart", "networks", "problem"),
    [
        ({}, ["172.30.0.0/24", "fd30::/64"], ""),
        ({}, ["10.7.0.0/24"], "ipam.operator.clusterPoolIPv4PodCIDRList: 10.0.0.0/8 overlaps 10.7.0.0/24"),
        ({}, ["fd00::/64"], "ipam.operator.clusterPoolIPv6PodCIDRList: fd00::/104 overlaps fd00::/64"),
        ({"ipam": {"mode": "kubernetes"}}, ["10.7.0.0/24"], ""),
    ],
)
def test_pods_must_not_have_addresses_of_the_nodes_network(
    chart: dict[str, Any], networks: list[str], problem: str
) -> None:
    settings = from_values(chart)
    if problem:
        with pytest.raises(SettingsError, match=problem.replace(".", r"\.")):
            refuse_overlaps(settings, [ip_network(network) for network in networks])
    else:
        refuse_overlaps(settings, [ip_network(network) for network in networks])


def test_definitions_come_before_the_objects_that_need_them() -> None:
    kinds = [manifest["kind"] for manifest in install(Settings(), ["172.30.0.0/24"])]
    first_other = next(number for number, kind in enumerate(kinds) if kind != "CustomResourceDefinition")
    assert first_other > 0
    assert "CustomResourceDefinition" not in kinds[first_other:]
    assert {"DaemonSet", "Deployment", "ConfigMap"} <= set(kinds[first_other:])


def test_errors_that_people_can_mend_are_one_message() -> None:
    error = LabError("no such lab")
    error.add_note("look at the log")
    with pytest.raises(click.ClickException, match="no such lab\nlook at the log"), errors():
        raise error
    with pytest.raises(ZeroDivisionError), errors():
        raise ZeroDivisionError


@pytest.mark.parametrize("command", ["status", "env"])
def test_a_lab_that_is_not_up(command: str) -> None:
    answer = CliRunner().invoke(main, ["lab", command, "--name", "nobodys"])
    assert answer.exit_code == 1
    assert "nobodys" in answer.output


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ('level=error event="task failed" error="Missing: no \\"x\\" here" exception="T\\n"', 'Missing: no "x" here'),
        ("timestamp=1 level=error event=failed error=Boom\ntimestamp=2 level=info event=stopped", "Boom"),
        ("timestamp=1 level=error event=a error=First\ntimestamp=2 level=error event=b error=Last", "Last"),
        ('timestamp=1 level=warning event=retry error="not this"', "its log names no error"),
        ("", "its log names no error"),
    ],
)  # fmt: skip
def test_the_last_error_of_an_agent_that_ended(log: str, said: str) -> None:
    assert error_in(log) == said


class WaitingLab:
    """A lab whose agent is seen as often as there are numbers: how often it has been restarted, and -1: it is ready."""

    def __init__(self, *restarts: int) -> None:
        self._restarts = restarts

    def api(self) -> WaitingLab:
        return self

    def get(self, path: str) -> dict[str, Any]:
        return {"message": 'level=error event=failed error="no memory"'}

    def wait(self, path: str, ready: Any, timeout: float, what: str) -> None:
        for count in self._restarts:
            conditions = [{"type": "Ready", "status": "True" if count < 0 else "False"}]
            status = {"conditions": conditions, "containerStatuses": [{"restartCount": abs(count)}]}
            meta = {"name": "cilium-1", "namespace": "kube-system", "uid": "1"}
            if ready([{"metadata": meta, "spec": {"nodeName": "node1"}, "status": status}]):
                return
        raise AssertionError("the agent was not ready")

    def wait_ready(self, nodes: Any) -> None:
        assert nodes == {"node1"}


def test_restarts_before_are_no_reason_to_give_up() -> None:
    wait_for_cilium(WaitingLab(7, 8, 9, -9), lambda _: None, {"node1"})  # type: ignore[arg-type]  # what it asks
    with pytest.raises(LabError, match="the agent on node1 ends at its start: no memory"):
        wait_for_cilium(WaitingLab(7, 8, 9, 10, -10), lambda _: None, {"node1"})  # type: ignore[arg-type]  # likewise

"""Who is asked by whom, where: one pod per node and workload, ports by number and name, both families."""

from __future__ import annotations

import pytest
from unit.connectivity.policy_tests.shop import cases

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.plan import places_outside


def asked(text: str) -> list[str]:
    return sorted(
        f"{probe.asker.name}>{probe.address}:{probe.port}/{probe.protocol}"
        for case in cases(text)
        for probe in case.probes
    )


def test_one_pod_per_node_stands_for_a_workload() -> None:
    assert asked("- {from: shop/shell, to: shop/web, ports: [http, ICMP], families: IPv4, expect: allowed}") == [
        "shop/shell>198.18.0.1:0/ICMP",
        "shop/shell>198.18.0.1:8080/TCP",
        "shop/shell>198.18.0.3:0/ICMP",
        "shop/shell>198.18.0.3:8080/TCP",
    ]
    found = asked("- {from: shop/app=web, to: deploy/shop/db, families: IPv6, expect: denied}")
    assert found == ["shop/web-abc-1>fd00::4:5432/TCP", "shop/web-abc-3>fd00::4:5432/TCP"]


def test_nothing_said_is_every_declared_port_over_both_families_and_no_pod_asks_itself() -> None:
    found = cases("- {from: shop/web, to: shop/web, expect: allowed}")
    assert [case.name.split(" -> ")[1] for case in found] == [
        "shop/web 8080/TCP IPv4", "shop/web 8080/TCP IPv6", "shop/web 53/UDP IPv4", "shop/web 53/UDP IPv6",
    ]  # fmt: skip
    assert all(len(case.probes) == 2 for case in found), "1 to 3 and 3 to 1"


def test_services_are_asked_at_their_address_and_from_outside_at_a_node_port() -> None:
    assert asked("- {from: host:node2, to: shop/front, ports: [www], expect: allowed}") == [
        "host:node2>10.96.0.7:80/TCP"
    ]
    (case,) = cases("- {from: world, to: shop/front, expect: allowed}")
    (probe,) = case.probes
    assert (probe.address, probe.port, probe.target) == ("172.30.1.11", 30080, 8080)
    assert set(probe.behind) == {f"198.18.0.{n}" for n in (1, 2, 3)} | {f"fd00::{n}" for n in (1, 2, 3)}
    (found,) = asked("- {from: 192.0.2.7, to: shop/front, ports: [80], families: IPv4, expect: denied}")
    assert found == "192.0.2.7>172.30.1.11:30080/TCP", "a port is written as the Service has it"


def test_the_world_gets_the_addresses_that_are_asked() -> None:
    found = cases(
        """
- {from: shop/shell, to: [world, 198.51.100.0/24], ports: [443, ICMP], expect: allowed}
- {from: 192.0.2.7, to: shop/front, expect: denied}
"""
    )
    assert places_outside(found) == {
        ("203.0.113.10", 443, "tcp"), ("203.0.113.10", 0, ""), ("2001:db8::10", 443, "tcp"), ("2001:db8::10", 0, ""),
        ("198.51.100.1", 443, "tcp"), ("198.51.100.1", 0, ""), ("192.0.2.7", 0, ""),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("from: shop/nobody, to: shop/web", "shop/nobody: no such pod or workload; shop has db, shell, web"),
        ("from: shop/web, to: shap/web", "no such pod, workload or Service; namespaces with pods are shop"),
        ("from: svc/shop/front, to: shop/web", "a Service asks nobody"),
        ("from: host:node9, to: shop/web", "host:node9: no such node; there are node1, node2"),
        ("from: shop/web, to: shop/db, ports: [http]", "shop/db: has no port http/TCP; it has sql/TCP"),
        ("from: shop/web, to: shop/front, ports: [81]", "shop/front: has no port 81/TCP; it has www/TCP"),
        ("from: shop/web, to: shop/front, ports: [ICMP]", "a Service answers no ICMP"),
        ("from: shop/web, to: shop/none", "this Service has no cluster IP"),
        ("from: shop/web, to: shop/shell", "shop/shell: declares no port: say which in ports"),
        ("from: shop/web, to: shop/front, families: [IPv6]", "shop/front has no address of IPv6"),
        ("from: world, to: shop/web", "the world reaches the cluster by Services"),
        ("from: world, to: shop/none", "it has no port for the world"),
        ("from: shop/web, to: 198.18.1.0/25", "overlaps 198.18.1.0/24, a network of the lab itself"),
        ("from: shop/shell, to: shop/shell, ports: [80]", "one and the same pod"),
    ],
)
def test_what_is_not_there_is_named_with_its_line(entry: str, problem: str) -> None:
    with pytest.raises(WrongTestError) as caught:
        cases(f"\n- {{{entry}, expect: allowed}}\n")
    assert str(caught.value).startswith("expectations.yaml:2: ")
    assert problem in str(caught.value)

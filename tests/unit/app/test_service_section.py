"""What the status says of services: how they are served, and all that is wrong."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

from cilium.app.inspection import row_name
from cilium.app.service_section import services
from cilium.cli.dbg.status import text
from cilium.features.programs.rows import XdpDevice
from cilium.settings import from_values
from cilium.tables.devices import Device
from cilium.tables.problems import Problem
from cilium.tables.services import Backend, Frontend, Scope
from cilium.tables.types import Ifindex

NATIVE = {"routingMode": "native", "ipv4NativeRoutingCIDR": "10.0.0.0/8", "kubeProxyReplacement": True}
PROBLEMS = [Problem("Service", "shop", f"s{number}", "192.0.2.1 80/TCP", "belongs to shop/a") for number in range(7)]


def section(values: dict[str, Any], problems: list[Problem] | None = None, *, xdp: str = "") -> dict[str, Any]:
    backend = Backend(ip_address("10.0.0.1"), 8080)
    return services(
        from_values(values).services,
        devices=[
            Device(Ifindex(2), "eth0", "", "", 1500, True, (ip_interface("192.0.2.5/24"), ip_interface("fe80::1/64")),
                   selected=True),
            Device(Ifindex(3), "docker0", "bridge", "", 1500, True, (ip_interface("172.17.0.1/16"),)),
        ],
        xdp=[XdpDevice("eth0", Ifindex(2), xdp)] if xdp else [],
        frontends=[
            Frontend(ip_address(ip), 80, "TCP", "shop/web", "", "ClusterIP", (backend,))
            for ip in ("10.96.0.1", "10.96.0.2")
        ],
        problems=problems or [],
    )  # fmt: skip


def status(section: dict[str, Any], *, verbose: bool = False) -> str:
    document = {
        "cilium": {"state": "Ok", "msg": "1"}, "controllers": [], "reconcilers": [], "errors": [], "tables": {},
        "kube-proxy-replacement": section,
    }  # fmt: skip
    return "\n".join(text(document, verbose=verbose))


def test_off() -> None:
    assert section({}) == {"mode": "False", "msg": "False"}
    assert "KubeProxyReplacement:   False" in status(section({}), verbose=True)


def test_the_line_says_where_and_how() -> None:
    found = section({"kubeProxyReplacement": True})
    assert found["msg"] == "True   [eth0 192.0.2.5; SNAT, Random; 2 frontends, 1 backends]"
    assert (found["devices"], found["problems"]) == (["eth0"], [])


def test_how_a_device_runs_xdp() -> None:
    values = {"kubeProxyReplacement": True, "loadBalancer": {"acceleration": "best-effort"}}
    found = section(values, xdp="generic")
    assert found["deviceList"] == [{"name": "eth0", "ip": ["192.0.2.5"], "xdp": "generic"}]
    assert "eth0 192.0.2.5 (XDP generic)" in found["msg"]
    assert "  Devices:                eth0 192.0.2.5 (XDP generic)" in status(found, verbose=True)
    assert "SNAT, Random, XDP Best-Effort;" in found["msg"]
    assert "xdp" not in section({"kubeProxyReplacement": True})["deviceList"][0]


def test_a_device_that_refused_xdp_does_not_look_as_if_it_ran_it() -> None:
    found = section({"kubeProxyReplacement": True, "loadBalancer": {"acceleration": "native"}})
    assert found["deviceList"][0]["xdp"] == "none"
    assert "eth0 192.0.2.5 (XDP none); SNAT, Random, XDP Native on 0 of 1 devices;" in found["msg"]
    assert "  Devices:                eth0 192.0.2.5 (XDP none)" in status(found, verbose=True)


def test_errors_name_rows_in_words() -> None:
    assert row_name(("eth0", "xdp")) == "eth0 xdp"
    assert row_name((ip_address("2001:db8::1"), 80, "TCP", Scope.CLUSTER)) == "2001:db8::1 80 TCP cluster"
    assert row_name("shop/web") == "shop/web"
    assert row_name(((ip_address("192.0.2.1"), 80), "TCP")) == "192.0.2.1 80 TCP"


def test_details() -> None:
    values = NATIVE | {
        "loadBalancer": {"mode": "hybrid", "algorithm": "maglev", "acceleration": "best-effort"},
        "socketLB": {"hostNamespaceOnly": True},
        "nodePort": {"range": "31000,31999", "addresses": ["192.0.2.0/24"]},
    }
    found = section(values)
    port = found["features"]["nodePort"]
    assert (port["mode"], port["algorithm"], port["lutSize"]) == ("Hybrid", "Maglev", 16381)
    assert "Hybrid, Maglev, XDP Best-Effort on 0 of 1 devices" in found["msg"]
    lines = status(found, verbose=True)
    for line in (
        "  Socket LB Coverage:     Hostns-only",
        "  Devices:                eth0 192.0.2.5 (XDP none)",
        "  Mode:                   Hybrid (DSR Dispatch: IP Option/Extension)",
        "  Backend Selection:      Maglev (Table Size: 16381)",
        "  XDP Acceleration:       Best-Effort",
        "  NodePort:               Enabled (Range: 31000-31999, Addresses: 192.0.2.0/24)",
        "  Session Affinity:       Enabled",
        "  Problems:               none",
    ):
        assert line in lines
    assert "details" not in status(found)


def test_annotations_are_those_that_are_read() -> None:
    names = section(NATIVE)["features"]["annotations"]["names"]
    assert "service.cilium.io/type" in names
    assert "service.cilium.io/lb-algorithm" not in names
    more = section(NATIVE | {"bpf": {"lbAlgorithmAnnotation": True, "lbModeAnnotation": True}})
    assert {"service.cilium.io/lb-algorithm", "service.cilium.io/forwarding-mode"} <= set(
        more["features"]["annotations"]["names"]
    )


def test_problems_are_counted_in_the_line_the_first_named_below_it_and_all_in_the_details() -> None:
    found = section({"kubeProxyReplacement": True}, PROBLEMS)
    assert len(found["problems"]) == 7
    assert found["msg"].endswith("; 7 problems]")
    assert section({"kubeProxyReplacement": True}, PROBLEMS[:1])["msg"].endswith("; 1 problem]")
    plain = status(found)
    assert plain.count("belongs to shop/a") == 5
    assert "2 more: cilium-dbg status --verbose" in plain
    assert status(found, verbose=True).count("belongs to shop/a") == 5 + 7

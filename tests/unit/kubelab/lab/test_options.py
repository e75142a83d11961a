"""What a lab may be told, and that it is told of every mistake by its name."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from kubelab.lab.control_plane import controller_options
from kubelab.lab.errors import LabError
from kubelab.lab.options import LabOptions


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"nodes": 0}, "nodes: 0: a lab has 1 to 100 nodes"),
        ({"nodes": 101}, "nodes: 101: a lab has 1 to 100 nodes"),
        ({"nodes": 2, "zones": 3}, r"zones: 3: a lab of 2 node\(s\) has 1 to 2 zones"),
        ({"zones": 0}, "zones: 0"),
        ({"families": ()}, "families: .*4, 6, or both"),
        ({"families": (4, 4)}, "families"),
        ({"families": (4, 5)}, "families"),
        ({"runtime": "docker"}, "runtime: 'docker': one of process, containerd"),
        ({"pod_cidrs": (("10.244.0.0/16", 24),)}, "pod_cidrs: 0 of IPv6: give one of each family"),
        ({"pod_cidrs": (("10.244.0.0/16", 12), ("fd00::/48", 64))}, "pod_cidrs: 10.244.0.0/16: blocks .* 12"),
        ({"pod_cidrs": (("10.244.0.1/16", 24), ("fd00::/48", 64))}, "pod_cidrs: '10.244.0.1/16': not a network"),
        ({"service_cidrs": ("10.96.0.0/16", "10.97.0.0/16")}, "service_cidrs: 2 of IPv4.*service_cidrs: 0 of IPv6"),
    ],
)
def test_a_mistake_is_named_with_its_field(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabError, match=problem):
        LabOptions(**given)


def test_what_was_recorded_is_what_was_given() -> None:
    given = LabOptions(nodes=5, zones=2, families=(6, 4), images=Path("/x/images.yaml"), xdp=True, dns=True)
    assert LabOptions.from_json(json.loads(json.dumps(given.as_json()))) == given


def test_nodes_take_turns_in_zones() -> None:
    options = LabOptions(nodes=5, zones=2)
    assert [options.zone(number) for number in range(1, 6)] == ["zone1", "zone2", "zone1", "zone2", "zone1"]


def test_a_lab_of_one_family_has_ranges_of_that_family_only() -> None:
    options = LabOptions(families=(6,), dns=True)
    assert options.pod_ranges == ((ip_network("fd00:10:244::/48"), 64),)
    assert options.name_servers == ("fd00:10:96::a",)
    (pool,) = controller_options(options, ca=b"pem", nodes=Path("/nowhere")).cluster_cidrs
    assert (pool.pool, pool.mask_size) == (ip_network("fd00:10:244::/48"), 64)


def test_the_primary_family_comes_first() -> None:
    options = LabOptions(families=(6, 4))
    assert [network.version for network in options.service_ranges] == [6, 4]
    assert options.name_servers == ()

"""CiliumCIDRGroup: an invalid update changes nothing but the error."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from cilium.sources.kubernetes.policies import decode_cidr_group, merge_group
from cilium.tables.rules import CIDRGroup


def group(spec: Any, uid: str = "u") -> CIDRGroup:
    metadata = {"name": "g", "uid": uid, "labels": {"b": "2", "a": "1"}}
    return decode_cidr_group(msgspec.json.encode({"metadata": metadata, "spec": spec}))


def test_both_families_once_each() -> None:
    found = group({"externalCIDRs": ["10.1.2.3/8", "2001:db8::/32", "10.0.0.0/8"]})
    cidrs = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert found == CIDRGroup("g", "u", ("k8s:a=1", "k8s:b=2"), cidrs)
    assert group({"externalCIDRs": []}).cidrs == ()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"externalCIDRs": ["10.0.0.0/8", "10.0.0.0/33"]}, "spec.externalCIDRs[1]: '10.0.0.0/33' is not a CIDR"),
        ({"externalCIDRs": [7]}, "spec.externalCIDRs[0]: Expected 'str', got 'int'"),
        ({"cidrs": []}, "spec: Object"),
        (None, "spec: Expected 'object', got 'null'"),
    ],
)
def test_an_invalid_update_keeps_the_last_valid_cidrs_of_its_object(spec: Any, error: str) -> None:
    good, bad = group({"externalCIDRs": ["10.0.0.0/8"]}), group(spec)
    assert bad.error.startswith(error)
    assert merge_group(None, bad).cidrs == ()
    merged = merge_group(good, bad)
    assert (merged.cidrs, merged.error) == (good.cidrs, bad.error)
    assert merge_group(good, msgspec.structs.replace(bad, uid="another")).cidrs == ()
    assert merge_group(merged, good) == good

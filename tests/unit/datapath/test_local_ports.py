"""Node ports are not given to processes that ask for any port."""

from __future__ import annotations

import pytest

from cilium.datapath.fakes.netlink import FakeSysctls
from cilium.datapath.netlink.local_ports import EPHEMERAL, RESERVED, reserve


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "expected"),
    [
        ("32768\t60999", "", ""),
        ("10000\t60999", "", "30000-32767"),
        ("31000\t60999", "8080,9000-9100", "8080,9000-9100,30000-32767"),
        ("10000\t60999", "20000-40000", "20000-40000"),
        ("10000\t60999", "30000-32000", "30000-32000,30000-32767"),
        ("10000\t20000", "", ""),
    ],
)
def test_what_overlaps_is_reserved(ephemeral: str, reserved: str, expected: str) -> None:
    sysctls = FakeSysctls({EPHEMERAL: ephemeral, RESERVED: reserved})
    assert reserve(sysctls, 30000, 32767) is (expected != reserved)
    assert sysctls.values[RESERVED] == expected
    assert reserve(sysctls, 30000, 32767) is False, "once"

"""The bytes of load-time constants."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from cilium.datapath.errors import ObjectError
from cilium.datapath.links import parse_pin_name, pin_name
from cilium.datapath.loader import Constant, encode
from cilium.datapath.testrun import Frame, SkBuff


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (1, 1, b"\1"),
        (True, 1, b"\1"),
        (0x1234, 4, b"\x34\x12\0\0"),
        (-1, 4, b"\xff\xff\xff\xff"),
        (ip_address("10.0.0.1"), 16, bytes(10) + b"\xff\xff\x0a\0\0\1"),
        (b"abc", 3, b"abc"),
    ],
)
def test_constants(value: Constant, size: int, expected: bytes) -> None:
    assert encode("constant x", value, size) == expected


@pytest.mark.parametrize(("value", "size"), [(256, 1), (-129, 1), (1 << 64, 8), (b"ab", 3), (ip_address("::1"), 4)])
def test_what_does_not_fit(value: Constant, size: int) -> None:
    with pytest.raises(ObjectError, match=r"^constant x: "):
        encode("constant x", value, size)


@pytest.mark.parametrize("device", ["eth0", "eth0.100", "a-b", "br-1.2"])
def test_pins_name_device_and_hook(device: str) -> None:
    name = pin_name(device, "ingress")
    assert "." not in name
    assert parse_pin_name(name) == (device, "ingress")


def test_a_frame_ends_where_its_bytes_do() -> None:
    words = [int.from_bytes(Frame(60, 7).encode()[at : at + 4], "little") for at in range(0, 24, 4)]
    assert words == [0, 60, 0, 7, 0, 0]  # data, data_end, data_meta, ingress_ifindex, queue, egress_ifindex


def test_a_context_survives() -> None:
    context = SkBuff(mark=1, priority=2, ifindex=3, ingress_ifindex=4, cb=(5, 6, 7, 8, 9))
    assert SkBuff.decode(context.encode()) == context

"""Stand-ins for the kernel in tests of features: the same ports, kept in memory, with faults on demand."""

from cilium.datapath.fakes.links import FakeDeviceLinks, FakeXdpLinks
from cilium.datapath.fakes.maps import FakeMap
from cilium.datapath.fakes.nested import FakeNestedMap
from cilium.datapath.fakes.netlink import FakeNetlink, FakeSysctls

__all__ = ["FakeDeviceLinks", "FakeMap", "FakeNestedMap", "FakeNetlink", "FakeSysctls", "FakeXdpLinks"]

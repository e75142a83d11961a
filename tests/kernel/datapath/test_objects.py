"""The datapath's own objects: they load together, share their maps, and are what Python believes them to be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cilium.datapath.generated import CONSTANTS
from cilium.datapath.generated.maps import MAPS
from cilium.datapath.libbpf.objects import BpfObject
from cilium.datapath.loader import load
from cilium.datapath.maps import PinnedMap
from cilium.datapath.paths import OBJECT_DIRECTORY
from cilium.datapath.ringbuf import RingBuffer
from cilium.features.services.rows import HOOKS as SOCKET_HOOKS

pytestmark = pytest.mark.kernel
HOOKS = ("lxc", "host", "overlay", "netdev", "sock")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    make = ["make", "-s", "-C", str(ROOT / "bpf"), f"OUT={OBJECT_DIRECTORY}"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("hook", HOOKS)
def test_maps_and_constants_are_as_generated(hook: str) -> None:
    with BpfObject(OBJECT_DIRECTORY / f"{hook}.bpf.o") as opened:
        pinned = {name: each.shape for name, each in opened.maps.items() if each.pinned}
        assert pinned == {name: MAPS[name].shape for name in pinned}
        _, variables = opened.read_only_data()
        found = {name: variable.size for name, variable in variables.items() if name.startswith("config_")}
        assert found == CONSTANTS


def test_they_load_together_and_share_their_maps(bpf_dir: Path) -> None:
    sizes = {"cilium_ct": 1024, "cilium_snat": 1024, "cilium_events": 65536}
    objects = [load(OBJECT_DIRECTORY / f"{h}.bpf.o", pin_dir=bpf_dir, max_entries=sizes) for h in HOOKS]
    try:
        programs = {name for loaded in objects for name in loaded.programs}
        sockets = {hook.program for hook in SOCKET_HOOKS}
        packets = {"from_lxc", "to_lxc", "from_host", "from_overlay", "from_netdev", "to_netdev"}
        assert programs == packets | sockets
        assert set(os.listdir(bpf_dir)) == set(MAPS)
        for name in MAPS:
            if name == "cilium_events":
                RingBuffer(name, bpf_dir).close()
            else:
                PinnedMap(name, bpf_dir).close()
    finally:
        for loaded in objects:
            loaded.close()

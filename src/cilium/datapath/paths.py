"""Where the datapath leaves what must outlive the agent. Upstream's places, so that its tools find the maps."""

from __future__ import annotations

from pathlib import Path

BPF_FILESYSTEM = Path("/sys/fs/bpf")
MAP_DIRECTORY = BPF_FILESYSTEM / "tc/globals"
LINK_DIRECTORY = BPF_FILESYSTEM / "cilium/links"
OBJECT_DIRECTORY = Path(__file__).parent / "objects"

"""Objects compiled for the tests, and directories for pins that go away again."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kernel.datapath.namespaces import Namespace, namespace

from cilium.datapath.mapspec import MapSpec, MapType

HERE = Path(__file__).parent
ROW = np.dtype([("a", "<u4"), ("b", ">u2"), ("c", "<u2")])
PREFIX = np.dtype([("prefixlen", "<u4"), ("bytes", "u1", (4,))])
U4 = np.dtype("<u4")
SPECS = {
    spec.name: spec
    for spec in (
        MapSpec("tiny_hash", MapType.HASH, U4, ROW, 20000),
        MapSpec("tiny_lru", MapType.LRU_HASH, U4, ROW, 20000),
        MapSpec("tiny_lpm", MapType.LPM_TRIE, PREFIX, ROW, 20000, 1),
        MapSpec("tiny_array", MapType.ARRAY, U4, ROW, 64),
        MapSpec("tiny_percpu", MapType.PERCPU_HASH, U4, U4, 1000),
        MapSpec("tiny_percpu_array", MapType.PERCPU_ARRAY, U4, ROW, 16),
        MapSpec(
            "tiny_nested",
            MapType.HASH_OF_MAPS,
            U4,
            U4,
            100,
            1,
            MapSpec("tiny_inner", MapType.ARRAY, U4, U4, 16, 0x1400),
        ),
    )
}


def compile_object(source: Path, target: Path, *defines: str) -> Path:
    include = f"/usr/include/{os.uname().machine}-linux-gnu"
    flags = ["-g", "-O2", "-std=gnu11", "-target", "bpf", "-idirafter", include, *defines]
    subprocess.run(["clang-19", *flags, "-c", str(source), "-o", str(target)], check=True)
    return target


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_object(HERE / "tiny.bpf.c", tmp_path_factory.mktemp("objects") / "tiny.bpf.o")


@pytest.fixture(scope="session")
def specs() -> dict[str, MapSpec]:
    return SPECS


@pytest.fixture
def bpf_dir() -> Iterator[Path]:
    """A directory of its own on the bpf file system."""
    directory = Path(f"/sys/fs/bpf/test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def left() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def right() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


@pytest.fixture
def pair(left: Namespace, right: Namespace) -> tuple[Namespace, Namespace]:
    """Two namespaces joined by the veth pair `veth0` - `veth0`, 10.9.9.1 and 10.9.9.2."""
    left.ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth0", "netns", right.name)
    for each, address in ((left, "10.9.9.1/24"), (right, "10.9.9.2/24")):
        each.ip("address", "add", address, "dev", "veth0")
        each.ip("link", "set", "veth0", "up")
    return left, right

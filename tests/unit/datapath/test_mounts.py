"""Where the root of cgroup2 is found among the mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium.datapath.errors import DatapathError
from cilium.datapath.mounts import cgroup_root


def mounts(directory: Path, *lines: str) -> Path:
    path = directory / "mounts"
    path.write_text("".join(f"{line} rw,nosuid 0 0\n" for line in ("proc /proc proc", *lines)))
    return path


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["cgroup2 /sys/fs/cgroup cgroup2"], "/sys/fs/cgroup"),
        (["tmpfs /sys/fs/cgroup tmpfs", "cgroup2 /sys/fs/cgroup/unified cgroup2"], "/sys/fs/cgroup/unified"),
        (["cgroup2 /mnt/a cgroup2", "cgroup2 /sys/fs/cgroup cgroup2"], "/sys/fs/cgroup"),
        (["none /mnt/a cgroup2"], "/mnt/a"),
    ],
)
def test_the_usual_places_come_first(tmp_path: Path, lines: list[str], found: str) -> None:
    assert cgroup_root(mounts(tmp_path, *lines)) == Path(found)


def test_none_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DatapathError, match=r"mount -t cgroup2 none DIR.*cgroup\.hostRoot"):
        cgroup_root(mounts(tmp_path, "tmpfs /sys/fs/cgroup tmpfs"))

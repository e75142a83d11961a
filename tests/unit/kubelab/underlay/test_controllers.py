"""Which controllers a machine lends, read from a made-up /proc and cgroup trees."""

from __future__ import annotations

from pathlib import Path

from kubelab.underlay import controllers

CGROUPS = (
    "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t1\t1\ncpuacct\t3\t1\t1\nmemory\t5\t1\t1\npids\t0\t1\t1\n"
)


def machine(directory: Path, *mounts: str) -> Path:
    (directory / "self").mkdir()
    (directory / "cgroups").write_text(CGROUPS)
    (directory / "self/mounts").write_text("".join(f"{line}\n" for line in mounts))
    return directory


def test_hierarchies_are_known_by_their_controllers_or_their_name(tmp_path: Path) -> None:
    proc = machine(
        tmp_path,
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0",
        "cgroup /sys/fs/cgroup/systemd cgroup rw,nosuid,xattr,name=systemd 0 0",
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0",
        "cgroup /mnt/again cgroup rw,cpu,cpuacct 0 0",
        "cgroup /sys/fs/cgroup/memory cgroup ro,memory 0 0",
        "cgroup /sys/fs/cgroup/memory cgroup ro,nosuid,memory 0 0",
        "tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0",
    )
    found = controllers.hierarchies(proc)
    assert [(one.options, one.directory, str(one.mount)) for one in found] == [
        ("name=systemd", "systemd", "/sys/fs/cgroup/systemd"),
        ("cpu,cpuacct", "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
    ]
    assert found[1].group("lab", "node1") == Path("/sys/fs/cgroup/cpu,cpuacct/kubelab/lab/node1")


def test_cgroup2_lends_what_it_has_down_to_the_node(tmp_path: Path) -> None:
    node = tmp_path / "kubelab/lab/node1"
    node.mkdir(parents=True)
    for group in (node, node.parent, node.parent.parent):
        (group / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (group / "cgroup.subtree_control").write_text("")
    controllers.delegate(node)
    for group in (node, node.parent, node.parent.parent):
        assert (group / "cgroup.subtree_control").read_text() == "+pids"  # the last of three writes
    (node / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert controllers.lent(node) >= controllers.LIMITS

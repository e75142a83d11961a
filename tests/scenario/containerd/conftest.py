"""One lab whose nodes run containerd, for all modules here; its images are made of this machine's programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from scenario.cluster import Cluster, lacks
from scenario.containerd.world import IMAGE, NS, RICH, image, pod
from scenario.cri import images

from kubelab.lab import containerd
from kubelab.lab.lab import Lab

SERVE = ["sh", "-c", 'echo "starts as $(id -u)"; exec httpd -f -p 8080 -h /srv']
ENTRY = b"""echo "$* in $PWD as $(id -u), $GREETING"
trap "echo asked to stop; exit 7" USR1
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="session")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout, one of several platforms with all that an image can say, and one as `docker save` writes it."""
    directory = tmp_path_factory.mktemp("images")
    served = {"srv/index.html": b"from an image\n"}
    images.shell(directory / "web.tar", IMAGE, SERVE, programs=["curl"], files=served, environment=["GREETING=hello"])
    images.shell(
        directory / "one.tar", "one:1", ["from", "the image"], entrypoint=["/applets/sh", "/entry"], user="web",
        files={**served, "entry": ENTRY}, working_directory="/srv", environment=["GREETING=hello"],
        stop_signal="SIGUSR1",
    )  # fmt: skip
    images.as_index(directory / "one.tar", directory / "rich.tar", RICH)
    images.shell(directory / "user.tar", "user:1", ["sh", "-c", "id -u; exit 3"], user="web")
    images.as_docker_save(directory / "user.tar", directory / "saved.tar.gz", "saved:1")
    return directory


@pytest.fixture(scope="session")
def containerd_lab(tars: Path) -> Iterator[Cluster]:
    """Of two nodes: the second joins when images were loaded."""
    if reason := lacks() or containerd.lacks():
        pytest.fail(reason)  # make setup installs containerd and runc
    cluster = Cluster(f"t{os.getpid()}-cri")
    values = tars / "values.yaml"
    values.write_text("kubeProxyReplacement: true\n")
    try:
        cluster.up("--runtime", "containerd", nodes=1, values=values)
        for tar, name in (("saved.tar.gz", "docker.io/library/saved:1"), ("rich.tar", RICH), ("web.tar", IMAGE)):
            assert image(cluster, "load", tars / tar) == f"loaded {name}\n"
        Lab(cluster.name).add_node()
        cluster.kubectl("create", "namespace", NS)
        cluster.kubectl("wait", "node/node2", "--for=condition=Ready", "--timeout=40s")
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def lab(containerd_lab: Cluster) -> Cluster:
    """Pods of tests stay, under names of their own, until the last test takes their namespace away."""
    return containerd_lab


@pytest.fixture
def web(lab: Cluster) -> str:
    """A running pod of the image."""
    lab.apply(pod("single", IMAGE, nodeName="node1"))
    lab.kubectl("-n", NS, "wait", "pod/single", "--for=condition=Ready", "--timeout=20s")
    return "single"

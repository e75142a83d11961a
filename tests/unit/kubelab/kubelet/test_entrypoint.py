"""What a container executes, and as whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubelab.images.layer import Layer
from kubelab.images.programs import standin_argv
from kubelab.images.registry import Entry, Registry
from kubelab.kubelet.entrypoint import UserError, identity, invocation, user

REGISTRY = Registry((Entry(images=["tool"], about="a tool", entrypoint=["tool"], cmd=["--help"]),))


def test_words_of_the_pod_are_expanded(tmp_path: Path) -> None:
    container = {"name": "c", "image": "tool", "args": ["$(A)", "$(B)", "$$(A)"]}
    assert invocation(container, {"A": "1"}, REGISTRY, Layer(tmp_path)).argv == ["tool", "1", "$(B)", "$(A)"]


def test_ports_of_the_pod_are_the_standins(tmp_path: Path) -> None:
    ports = [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]
    found = invocation({"name": "c", "image": "x", "ports": ports}, {}, REGISTRY, Layer(tmp_path))
    assert found.argv == standin_argv("server", ["80/tcp", "53/udp"])
    pod = {"metadata": {"name": "p", "namespace": "n"}}
    known = identity(pod, {"name": "c", "image": "x"}, "node1", found.ports)
    assert (known["KUBELAB_POD"], known["KUBELAB_IMAGE"], known["KUBELAB_PORTS"]) == ("p", "x", "80/tcp 53/udp")


@pytest.mark.parametrize(
    ("security", "image", "wanted"),
    [
        ({}, "", (0, 0)),
        ({}, "1000", (1000, 0)),
        ({}, "1000:2000", (1000, 2000)),
        ({}, "root:root", (0, 0)),
        ({}, "nobody", (65534, 65534)),
        ({"runAsUser": 5}, "1000:2000", (5, 0)),
        ({"runAsUser": 5, "runAsGroup": 6}, "nobody", (5, 6)),
        ({"runAsGroup": 6}, "1000:2000", (1000, 6)),
        ({"runAsUser": 0}, "1000:2000", (0, 0)),
    ],
)
def test_who_runs_it(security: dict[str, Any], image: str, wanted: tuple[int, int]) -> None:
    assert user(security, image) == wanted


@pytest.mark.parametrize("image", ["no-such-user", "root:no-such-group"])
def test_a_user_that_is_not_here_is_named(image: str) -> None:
    with pytest.raises(UserError, match=f"unable to find user {image}"):
        user({}, image)

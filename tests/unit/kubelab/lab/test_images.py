"""Images of labs: where they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubelab.lab import images
from kubelab.lab.errors import LabError
from kubelab.lab.options import LabOptions
from kubelab.lab.state import LabPaths, LabState


def test_a_lab_of_processes_refuses_images_and_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    state = LabState(name="x", index=1, options=LabOptions(), pids={})
    monkeypatch.setattr(LabPaths, "require", lambda _: state)
    for call in (lambda: images.load(LabPaths("x"), Path("a.tar")), lambda: images.listing(LabPaths("x"))):
        with pytest.raises(LabError, match="cilium lab up --runtime containerd"):
            call()

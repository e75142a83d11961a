"""What ends pods before their time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubelab import timestamps
from kubelab.kubelet import endings
from kubelab.kubelet.endings import Ending, Places, ending

LIMIT = {"limits": {"ephemeral-storage": "64Ki"}}
VOLUMES: list[dict[str, Any]] = [
    {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}},
    {"name": "m", "emptyDir": {"sizeLimit": "1", "medium": "Memory"}},
    {"name": "free", "emptyDir": {}},
    {"name": "map", "configMap": {"name": "x"}},
]


def pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "resources": LIMIT}, {"name": "d"}]
    return {"spec": {"containers": containers, "volumes": VOLUMES, **spec}}


@pytest.mark.parametrize(
    ("place", "size", "words"),
    [
        ("v", (1 << 20) + 1, 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '),
        ("c", 1 << 17, 'Container c exceeded its local ephemeral storage limit "64Ki". '),
    ],
)
async def test_too_much_local_storage_evicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, size: int, words: str
) -> None:
    monkeypatch.setattr(endings, "ROUND", 0.01)
    for name in "vmcd":
        (tmp_path / name / "deep").mkdir(parents=True)
    for name in ("m", "d"):  # these may
        (tmp_path / name / "f").write_bytes(b"x" * (2 << 20))
    places = Places({"v": tmp_path / "v", "m": tmp_path / "m"}, {"c": tmp_path / "c", "d": tmp_path / "d"})
    assert endings.overflow(*endings.limited(pod()), places) == ""
    waiting = asyncio.create_task(ending(pod(), timestamps.now(), places))
    (tmp_path / place / "deep" / "f").write_bytes(b"x" * size)
    assert await asyncio.wait_for(waiting, 5) == Ending("Evicted", words, "Warning", 1.0, evicted=True)


async def test_a_deadline_counts_from_the_pods_start() -> None:
    places = Places({}, {})
    late = pod(activeDeadlineSeconds=5, containers=[], volumes=[])
    found = await asyncio.wait_for(ending(late, "2020-01-01T00:00:00Z", places), 5)
    assert (found.reason, found.event, found.grace) == ("DeadlineExceeded", "Normal", None)

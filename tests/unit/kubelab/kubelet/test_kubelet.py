"""Workers that fail have successors, which finish what they were about."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubelab.kubelet import kubelet as module
from kubelab.kubelet.kubelet import Kubelet

POD = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}}


class Worker:
    """The first fails at once; those after it run until their pod is to go."""

    made: list[Worker]

    def __init__(self, pod: dict[str, Any], _: object) -> None:
        self.pod, self.uid, self.name = pod, pod["metadata"]["uid"], "n/p"
        self.gone, self.removed = False, False
        self._end = asyncio.Event()
        self.made.append(self)

    async def run(self) -> None:
        if len(self.made) == 1:
            raise RuntimeError("broken")
        await self._end.wait()
        self.removed = True

    def vanished(self) -> None:
        self.gone = True
        self._end.set()

    def event(self, *_: str) -> None: ...


class References:
    def keep(self, _: object) -> None: ...


async def test_a_pod_that_vanishes_while_its_worker_is_broken_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Worker.made = []
    monkeypatch.setattr(module, "PodWorker", Worker)
    monkeypatch.setattr(module, "WORKER_RETRY", 0.05)
    made = Kubelet.__new__(Kubelet)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        monkeypatch.setattr(made, "__dict__", {
            "_tasks": tasks, "workers": {}, "_around": None, "_directory": tmp_path, "_references": References(),
        })  # fmt: skip
        made._assign(POD)
        await asyncio.sleep(0)
        made.workers["u"].vanished()
    assert [worker.removed for worker in Worker.made] == [False, True]
    assert not made.workers

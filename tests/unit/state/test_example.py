"""The guided tour runs and ends where it says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cilium.state.example import tour


def test_the_tour_ends_with_the_right_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(tour(tmp_path))
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"bob.greeting": "Servus, bob!", "cat.greeting": "Servus, cat!", "stranger.txt": "not ours"}
    assert "healed" in capsys.readouterr().out

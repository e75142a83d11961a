"""What a process does with its command line before it does anything else."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from cilium.app import logs
from cilium.app.processes import read_settings, run_process
from cilium.settings.model import schema


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings("cilium-agent", ["--no-such-flag=1", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert text.startswith("Usage: cilium-agent ")
    assert [
        entry.setting.key for entry in schema() if f"  --{entry.setting.key} (" not in text and entry.setting.key
    ] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings("cilium-operator", ["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("cilium-operator ")


def test_a_mistake_ends_the_process_with_its_reason() -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings("cilium-agent", ["--routing-mode=natve"])
    assert "cilium-agent: " in str(ended.value.code)
    assert "natve" in str(ended.value.code)


def test_settings() -> None:
    assert read_settings("cilium-agent", ["--mtu=1400"]).routing.mtu == 1400


async def _fails(error: Exception) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_raises(error))


async def _raises(error: Exception) -> None:
    raise error


def test_a_refusal_needs_no_traceback_and_a_defect_brings_one(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    logs.configure(debug=False, format="text")
    request.addfinalizer(structlog.reset_defaults)
    for error in (LookupError("no such pool; choose another"), ValueError("a defect")):
        with pytest.raises(SystemExit) as ended:
            run_process("cilium-agent", _fails(error), refusals=(LookupError,))
        assert ended.value.code == 1
    refused, defect = capsys.readouterr().err.strip().splitlines()
    assert "no such pool; choose another" in refused
    assert "Traceback" not in refused
    assert "Traceback" in defect

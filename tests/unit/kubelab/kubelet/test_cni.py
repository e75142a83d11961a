"""CNI configuration and results."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubelab.kubelet import cni


def test_lexically_first_configuration_wins(tmp_path: Path) -> None:
    (tmp_path / "20-b.conflist").write_text('{"name": "b", "cniVersion": "1.0.0", "plugins": [{"type": "b"}]}')
    (tmp_path / "10-a.conf").write_text('{"name": "a", "type": "plain"}')
    (tmp_path / "00-readme.txt").write_text("not one")
    found = cni.load(tmp_path)
    assert (found.name, [p["type"] for p in found.plugins]) == ("a", ["plain"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"name": "x"}', '{"plugins": [{"type": "x"}]}', '{"name": "x", "plugins": []}']
)
def test_broken_configuration_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "10-a.conflist").write_text(text)
    with pytest.raises(cni.CniError, match=r"10-a\.conflist"):
        cni.load(tmp_path)


def test_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(cni.CniError, match="no network configuration"):
        cni.load(tmp_path / "absent")


def test_readiness_needs_the_plugin_too(tmp_path: Path) -> None:
    configs, binaries = tmp_path / "net.d", tmp_path / "bin"
    configs.mkdir()
    binaries.mkdir()
    plugins = cni.Cni(configs, binaries, tmp_path / "cache")
    assert "no network configuration" in (plugins.ready() or "")
    (configs / "1.conflist").write_text('{"name": "a", "plugins": [{"type": "x"}]}')
    assert "no executable x" in (plugins.ready() or "")
    (binaries / "x").write_text("")
    (binaries / "x").chmod(0o755)
    assert plugins.ready() is None


def test_addresses_are_those_of_the_sandbox() -> None:
    result = {
        "interfaces": [{"name": "host"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
        "ips": [
            {"address": "10.0.0.1/24", "interface": 0},
            {"address": "10.0.0.2/24", "interface": 1},
            {"address": "fd00::2/64", "interface": 1},
            {"address": "10.0.0.3/24"},
        ],
    }
    assert cni.addresses(result) == ["10.0.0.2", "fd00::2", "10.0.0.3"]


def script(directory: Path, body: str) -> None:
    plugin = directory / "x"
    plugin.write_text(f"#!/bin/sh\n{body}\n")
    plugin.chmod(0o755)


@pytest.fixture
def plugins(tmp_path: Path) -> cni.Cni:
    (tmp_path / "1.conflist").write_text(
        '{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "x"}, {"type": "x"}]}'
    )
    return cni.Cni(tmp_path, tmp_path, tmp_path / "cache")


PLACE = cni.Attachment(container_id="id", netns="/proc/self/ns/net", namespace="n", pod="p", uid="u")


async def test_results_are_chained_and_cached(tmp_path: Path, plugins: cni.Cni) -> None:
    script(
        tmp_path, f'cat >> {tmp_path}/seen; echo >> {tmp_path}/seen; echo \'{{"ips": [{{"address": "10.0.0.2/32"}}]}}\''
    )
    result = await plugins.add(PLACE)
    assert cni.addresses(result) == ["10.0.0.2"]
    assert plugins.cached() == [PLACE]
    await plugins.delete(PLACE)
    first, second, *deletes = (tmp_path / "seen").read_text().splitlines()
    assert "prevResult" not in first
    assert "prevResult" in second
    assert len(deletes) == 2
    assert all("prevResult" in line for line in deletes)
    assert plugins.cached() == []
    await plugins.delete(PLACE)  # what is gone is no error


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('echo \'{"code": 11, "msg": "later", "details": "no agent"}\'; exit 1', "later: no agent"),
        ("echo broken >&2; exit 3", "exit status 3: broken"),
        ("echo not json", "result is not JSON"),
        ("echo []", "result is not an object"),
    ],
)
async def test_failures_carry_the_plugins_words(tmp_path: Path, plugins: cni.Cni, body: str, words: str) -> None:
    script(tmp_path, body)
    with pytest.raises(cni.CniError, match=words):
        await plugins.add(PLACE)


async def test_a_plugin_that_is_cancelled_ends_with_what_it_started(tmp_path: Path, plugins: cni.Cni) -> None:
    """Its child holds its pipes, and would hold the kubelet."""
    os.mkfifo(tmp_path / "begun")
    script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/begun; wait")
    adding = asyncio.create_task(plugins.add(PLACE))
    child = int(await asyncio.to_thread((tmp_path / "begun").read_text))
    adding.cancel()
    async with asyncio.timeout(4):
        with pytest.raises(asyncio.CancelledError):
            await adding
    for _ in range(400):
        if not runs(child):
            break
        await asyncio.sleep(0.01)
    assert not runs(child)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_missing_plugin_is_named(plugins: cni.Cni) -> None:
    with pytest.raises(cni.CniError, match="/x: No such file"):
        await plugins.add(PLACE)

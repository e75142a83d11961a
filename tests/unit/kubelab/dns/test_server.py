"""The process: sockets of both families, pages, reload, an API server that comes, goes and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest
from unit.kubelab.dns import objects

from kubelab.dns.index import Index
from kubelab.dns.server import Server


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(corefile: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "kubelab.dns", "-conf", str(corefile), "-dns.port", str(port)]
    started = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_it_answers_over_both_protocols_and_families(tmp_path: Path) -> None:
    port, health, metrics = free_port(), free_port(), free_port()
    corefile = tmp_path / "Corefile"
    corefile.write_text(
        f". {{\n health :{health}\n ready :{health + 1}\n prometheus :{metrics}\n hosts {{\n 10.0.0.1 a.test\n }}\n}}"
    )
    with process(corefile, port) as running:
        assert running.stdout is not None
        assert f"[::]:{port}" in running.stdout.readline()
        assert "CoreDNS-" in running.stdout.readline()
        query = dns.message.make_query("a.test", "A")
        for address in ("127.0.0.1", "::1"):
            for ask in (dns.query.udp, dns.query.tcp):
                assert [str(one[0]) for one in ask(query, address, 5, port).answer] == ["10.0.0.1"]
        assert dns.query.udp(dns.message.make_query("a.test", "AXFR"), "127.0.0.1", 5, port).rcode().name == "REFUSED"
        assert page(health, "/health") == "OK"
        assert page(health + 1, "/ready") == "OK"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            page(health, "/other")
        counted = page(metrics, "/metrics")
        assert (
            'coredns_dns_requests_total{family="2",proto="tcp",server="dns://:53",type="A",view="",zone="."}' in counted
        )
        running.send_signal(signal.SIGTERM)
        assert running.wait(5) == 0


def test_a_bad_corefile_ends_the_process(tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(". {\n nothing\n}")
    done = subprocess.run(
        [sys.executable, "-m", "kubelab.dns", "-conf", str(corefile)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"{corefile}:2 - Error during parsing: Unknown directive 'nothing'" in done.stderr


async def test_reload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(". {\n bind 127.0.0.1\n hosts {\n 10.0.0.1 a.test\n }\n}")
    async with Server(corefile, port=0) as server:
        ((address, port),) = server.places

        async def asked() -> list[str]:
            query = dns.message.make_query("a.test", "A")
            found = await asyncio.to_thread(dns.query.udp, query, address, 5, port)
            return [str(one[0]) for one in found.answer]

        assert await asked() == ["10.0.0.1"]
        assert not await server.reload()
        corefile.write_text(corefile.read_text().replace("10.0.0.1", "10.0.0.2"))
        assert await server.reload()
        assert await asked() == ["10.0.0.2"]
        assert server.places == [(address, port)]
        corefile.write_text("{")
        assert not await server.reload()
        assert await asked() == ["10.0.0.2"]
    said = capsys.readouterr().out
    assert "Reloading complete" in said
    assert "Corefile changed but reload failed" in said


def test_the_index_forgets_what_it_learned() -> None:
    index = Index(("services", "pods"))
    index.replace("pods", [objects.pod("a", "10.0.0.1"), objects.pod("b", "10.0.0.1")])
    assert not index.synced
    index.replace("services", [json.loads(json.dumps(objects.service("web", "10.96.0.1")))])
    assert index.synced
    index.change("pods", "DELETED", objects.pod("a"))
    assert index.pod_at("shop", "10.0.0.1")
    index.replace("pods", [])
    assert not index.pod_at("shop", "10.0.0.1")

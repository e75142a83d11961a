"""The prober against real sockets of loopback: every outcome, both families, many at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import kubelab.prober
from kubelab.images.programs import OUTSIDE, standin_argv

PROBER = Path(kubelab.prober.__file__).with_name("probe.py")


def ask(*probes: dict[str, Any], timeout: float = 1.0) -> list[dict[str, Any]]:
    order = json.dumps({"timeout": timeout, "probes": probes})
    argv = [sys.executable, "-S", "-E", "-I", str(PROBER)]
    done = subprocess.run(argv, input=order, capture_output=True, text=True, check=True, timeout=30)
    return list(json.loads(done.stdout))


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ports(address: str) -> Iterator[tuple[int, int]]:
    """(TCP, UDP) of a stand-in at this address only."""
    place = f"[{address}]" if ":" in address else address
    argv = standin_argv("server", [f"{place}:0/tcp", f"{place}:0/udp"], run=OUTSIDE)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        numbers = [int(process.stdout.readline().split()[-1].partition("/")[0]) for _ in range(2)]
        yield numbers[0], numbers[1]
    finally:
        process.kill()
        process.communicate()


def test_what_is_answered(address: str, ports: tuple[int, int]) -> None:
    tcp, udp = ports
    found = ask(
        {"address": address, "protocol": "TCP", "port": tcp},
        {"address": address, "protocol": "TCP", "port": tcp, "path": "/x", "bind": address},
        {"address": address, "protocol": "UDP", "port": udp},
    )
    assert [each["outcome"] for each in found] == ["answered"] * 3
    assert found[1]["detail"] == "HTTP/1.1 200 OK"
    assert all(each["source"] == address and each["source_port"] > 0 for each in found)
    assert len({each["source_port"] for each in found}) == 3


def test_the_stand_in_answers_at_its_address_only(address: str, ports: tuple[int, int]) -> None:
    other = "127.0.0.2" if address == "127.0.0.1" else "127.0.0.1"
    (found,) = ask({"address": other, "protocol": "TCP", "port": ports[0]})
    assert found["outcome"] == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_echo(address: str) -> None:
    (found,) = ask({"address": address, "protocol": "ICMP"})
    assert (found["outcome"], found["source"], found["source_port"]) == ("answered", address, 0)


def test_refusal_and_silence_are_told_apart(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        silent = stack.enter_context(closing(socket.socket(family, socket.SOCK_DGRAM)))
        silent.bind((address, 0))
        taken = stack.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
        taken.bind((address, 0))  # bound, and nobody listens: no one else gets the port
        found = ask(
            {"address": address, "protocol": "UDP", "port": silent.getsockname()[1]},
            {"address": address, "protocol": "TCP", "port": taken.getsockname()[1]},
            {"address": address, "protocol": "UDP", "port": 9, "bind": address},
            {"address": "203.0.113.1", "protocol": "TCP", "port": 9, "bind": "192.0.2.99"},
            timeout=0.4,
        )
        silent.setblocking(False)
        assert silent.recv(100) == silent.recv(100), "a datagram is sent again"
    assert [each["outcome"] for each in found] == ["timeout", "refused", "refused", "unreachable"]
    assert found[0]["seconds"] >= 0.4


def test_a_port_that_speaks_something_else_is_no_http(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        (found,) = ask({"address": address, "protocol": "TCP", "port": server.getsockname()[1], "path": "/"})
        thread.join()
    assert (found["outcome"], found["detail"]) == ("error", "the connection was answered, but not by HTTP")


def test_more_than_fly_at_once_come_back_in_order(address: str, ports: tuple[int, int]) -> None:
    found = ask(*({"address": address, "protocol": "TCP", "port": ports[n % 2]} for n in range(600)), timeout=5)
    assert [each["outcome"] for each in found] == ["answered", "refused"] * 300

"""The stand-in as a process of its own, on loopback ports that the kernel chose."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from kubelab.images.programs import OUTSIDE, standin_argv

COMMAND = standin_argv("server", [], run=OUTSIDE)
IDENTITY = {"KUBELAB_POD": "web-0", "KUBELAB_NAMESPACE": "shop", "KUBELAB_NODE": "n1", "KUBELAB_CONTAINER": "main"}
TIMEOUT = 5
LOOPBACKS = ["127.0.0.1", "::1"]


class StandIn:
    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int]) -> None:
        self.process = process
        self.tcp, self.udp = ports["tcp"], ports["udp"]

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((address, self.tcp), timeout=TIMEOUT)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    process = subprocess.Popen([*COMMAND, "0/tcp", "0/udp"], env=IDENTITY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ports = {}
    for _ in range(2):
        port, _, protocol = process.stdout.readline().split()[-1].partition("/")
        ports[protocol] = int(port)
    yield StandIn(process, ports)
    process.kill()
    process.communicate()


def lines(sock: socket.socket) -> list[dict[str, object]]:
    with sock.makefile("rb") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("address", LOOPBACKS)
def test_http_tells_who_and_what(stand_in: StandIn, address: str) -> None:
    connection = http.client.HTTPConnection(address, stand_in.tcp, timeout=TIMEOUT)
    connection.request("POST", "/a?b=%C3", "hé".encode(), {"X-Test": "yes"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
    expected = {"pod": "web-0", "namespace": "shop", "node": "n1", "container": "main", "protocol": "HTTP"}
    assert expected.items() <= answer.items()
    assert (answer["client"], answer["port"], answer["method"]) == (address, stand_in.tcp, "POST")
    assert (answer["path"], answer["body"], answer["headers"]["x-test"]) == ("/a?b=%C3", "hé", "yes")
    connection.close()


def test_keep_alive_and_pipelining(stand_in: StandIn) -> None:
    with stand_in.connect() as sock:
        sock.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        with sock.makefile("rb") as file:
            data = file.read()
    assert data.count(b"HTTP/1.1 200 OK") == 2
    assert data.index(b'"/1"') < data.index(b'"/2"')
    assert b"Connection: keep-alive" in data


def test_http_1_0_closes_and_head_has_no_body(stand_in: StandIn) -> None:
    with stand_in.connect() as sock:
        sock.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as file:
            data = file.read()
    assert data.startswith(b"HTTP/1.0 200 OK")
    assert data.endswith(b"\r\n\r\n")


def test_chunked_bodies_in_pieces_and_continue(stand_in: StandIn) -> None:
    with stand_in.connect() as sock:
        sock.sendall(b"PO")
        sock.sendall(b"ST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"3\r\nabc\r\n2;x=y\r\nde\r\n")
        sock.sendall(b"0\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            assert b'"body": "abcde"' in file.read()


def test_large_answers(stand_in: StandIn) -> None:
    connection = http.client.HTTPConnection("::1", stand_in.tcp, timeout=TIMEOUT)
    connection.request("GET", "/bytes/3000000")
    assert len(connection.getresponse().read()) == 3000000
    connection.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET  HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 70000, b"431"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_bad_requests_are_refused_and_the_server_lives(stand_in: StandIn, request_bytes: bytes, status: bytes) -> None:
    with stand_in.connect() as sock:
        sock.sendall(request_bytes)
        assert sock.recv(12) == b"HTTP/1.1 " + status
    with stand_in.connect() as sock:
        sock.sendall(b"x\n")
        sock.shutdown(socket.SHUT_WR)
        assert [line["received"] for line in lines(sock)] == ["x"]


@pytest.mark.parametrize("address", LOOPBACKS)
def test_other_tcp_gets_a_line_per_line(stand_in: StandIn, address: str) -> None:
    with stand_in.connect(address) as sock:
        sock.sendall(b"GETTING along\nsecond\r\nrest")
        sock.shutdown(socket.SHUT_WR)
        answers = lines(sock)
    assert [answer["received"] for answer in answers] == ["GETTING along", "second", "rest"]
    assert {(answer["protocol"], answer["client"]) for answer in answers} == {("TCP", address)}


def test_who_says_nothing_gets_a_banner(stand_in: StandIn) -> None:
    with stand_in.connect() as sock:
        sock.shutdown(socket.SHUT_WR)
        (banner,) = lines(sock)
    assert banner["pod"] == "web-0"


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")])
def test_udp_answers_from_the_address_that_was_asked(stand_in: StandIn, family: int, address: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.sendto(b"ping", (address, stand_in.udp))
        data, peer = sock.recvfrom(65535)
    answer = json.loads(data)
    assert peer[0] == address
    assert (answer["protocol"], answer["received"], answer["node"]) == ("UDP", "ping", "n1")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(stand_in: StandIn, number: signal.Signals) -> None:
    stand_in.process.send_signal(number)
    assert stand_in.process.wait(TIMEOUT) == 0


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, f"{port}/tcp"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (1, f"port {port}/tcp: Address already in use\n")


def test_protocols_it_does_not_speak_are_said(stand_in: StandIn) -> None:
    process = subprocess.Popen([*COMMAND, "9/sctp", "0/tcp"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("9/sctp: not served")
    assert process.stdout.readline().startswith("listening on")
    process.terminate()
    process.communicate()

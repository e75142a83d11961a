"""`forward` and `cache`, with name servers on loopback to forward to."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from types import SimpleNamespace

import dns.flags
import dns.message
import pytest
from dns.rcode import Rcode
from unit.kubelab.dns.asking import ask, configured, outcome, texts

from kubelab.dns import listeners
from kubelab.dns.chain import Configuration
from kubelab.dns.corefile import CorefileError
from kubelab.dns.listeners import Listener
from kubelab.dns.plugins.cache import Cache
from kubelab.dns.plugins.forward import Forward
from kubelab.dns.wire import Protocol


async def eventually(condition: Callable[[], bool]) -> None:
    """Lets other tasks run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.001)


def received(sock: socket.socket) -> list[bytes]:
    """What has come to a socket that nobody reads."""
    found = []
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(4096))
    return found


async def upstream(answers: dict[str, str], asked: list[str], *, cut: bool = False, port: int = 0) -> Listener:
    """A name server on loopback; `cut`: over UDP it says to come by TCP."""

    async def answer(data: bytes, _peer: str, _port: int, protocol: Protocol) -> bytes:
        message = dns.message.from_wire(data)
        name = message.question[0].name.to_text().lower()
        asked.append(f"{protocol} {name}")
        response = dns.message.make_response(message, recursion_available=True)
        if cut and protocol == "udp":
            response.flags |= dns.flags.TC
        elif answers.get(name) == "SERVFAIL":
            response.set_rcode(Rcode.SERVFAIL)
        elif name in answers:
            response.answer.append(dns.rrset.from_text(message.question[0].name, 100, "IN", "A", answers[name]))
        else:
            response.set_rcode(Rcode.NXDOMAIN)
            soa = "ns. hostmaster. 1 2 3 4 7"
            response.authority.append(dns.rrset.from_text("test.", 100, "IN", "SOA", soa))
        return response.to_wire()

    return await Listener.open("127.0.0.1", port, answer)


async def test_forward_and_cache() -> None:
    asked: list[str] = []
    there = await upstream({"a.test.": "10.0.0.1", "b.test.": "10.0.0.2"}, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubelab.dns.plugins.forward.ATTEMPT", 0.2)
        silent = listeners.bound(socket.SOCK_DGRAM, "127.0.0.1", 0)
        server = configured(
            f""". {{
            prometheus localhost:0
            forward . 127.0.0.1:{silent.getsockname()[1]} 127.0.0.1:{there.port} {{
                except local.test
                policy sequential
            }}
            cache 30 {{
                disable success b.test
            }}
            }}"""
        )
        for _ in range(3):
            found = await ask(server, "A.test")
            assert texts(found) == ["10.0.0.1"]
            assert found.flags & dns.flags.RA
            assert str(found.answer[0].name) == "A.test."
            assert found.answer[0].ttl <= 100
            assert outcome(await ask(server, "none.test")) == "NXDOMAIN"
            assert texts(await ask(server, "b.test")) == ["10.0.0.2"]
        assert sorted(asked) == ["udp a.test."] + ["udp b.test."] * 3 + ["udp none.test."]
        assert outcome(await ask(server, "x.local.test")) == "SERVFAIL"
        silent.close()
        await there.close()
        assert texts(await ask(server, "a.test")) == ["10.0.0.1"]  # still in the cache
        assert outcome(await ask(server, "new.test")) == "SERVFAIL"


async def test_answers_that_were_cut_come_by_tcp() -> None:
    asked: list[str] = []
    there = await upstream({"a.test.": "10.0.0.1"}, asked, cut=True)
    server = configured(f". {{\n forward . 127.0.0.1:{there.port}\n}}")
    assert texts(await ask(server, "a.test")) == ["10.0.0.1"]
    assert asked == ["udp a.test.", "tcp a.test."]
    await there.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The cache's time, to be turned by the test."""
    now = [1000.0]
    monkeypatch.setattr("kubelab.dns.plugins.cache.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


async def cached(block: str, answers: dict[str, str], asked: list[str]) -> tuple[Configuration, Listener]:
    there = await upstream(answers, asked)
    options = "policy sequential\n max_fails 0"
    return configured(
        f". {{\n forward . 127.0.0.1:{there.port} {{\n {options}\n }}\n cache 30 {{\n {block}\n }}\n}}"
    ), there


async def test_a_cache_says_how_long_it_keeps_an_answer(clock: list[float]) -> None:
    server, there = await cached("", {"a.test.": "10.0.0.1"}, [])
    ttls = []
    for _ in range(3):
        ttls.append((await ask(server, "a.test")).answer[0].ttl)
        clock[0] += 10
    keeps, also = await cached("keepttl", {"a.test.": "10.0.0.1"}, [])
    for _ in range(2):
        ttls.append((await ask(keeps, "a.test")).answer[0].ttl)
        clock[0] += 10
    assert ttls == [30, 20, 10, 30, 30]
    await there.close()
    await also.close()


@pytest.mark.parametrize(("mode", "given"), [("immediate", (["10.0.0.1"], 0)), ("verify", (["10.0.0.2"], 30))])
async def test_stale_answers_are_given_while_nobody_answers(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, mode: str, given: tuple[list[str], int]
) -> None:
    answers, asked = {"a.test.": "10.0.0.1"}, list[str]()
    server, there = await cached(f"serve_stale 1m {mode}", answers, asked)
    assert texts(await ask(server, "a.test")) == ["10.0.0.1"]
    answers["a.test."] = "10.0.0.2"
    clock[0] += 40
    found = await ask(server, "a.test")
    assert (texts(found), found.answer[0].ttl) == given
    await eventually(lambda: len(asked) == 2)
    cache = next(plugin for plugin in server.plugins if isinstance(plugin, Cache))
    await eventually(lambda: not cache._fetching)
    assert texts(await ask(server, "a.test")) == ["10.0.0.2"]
    await there.close()
    monkeypatch.setattr("kubelab.dns.plugins.forward.ATTEMPT", 0.2)  # nobody answers from now on
    clock[0] += 40
    assert texts(await ask(server, "a.test")) == ["10.0.0.2"], "stale, and nobody there to ask"
    clock[0] += 61
    assert outcome(await ask(server, "a.test")) == "SERVFAIL", "stale for too long"
    await server.stop()


async def test_popular_answers_are_fetched_before_they_end(clock: list[float]) -> None:
    asked: list[str] = []
    server, there = await cached("prefetch 2 20s 50%", {"a.test.": "10.0.0.1"}, asked)
    for seconds, fetched in ((0, 1), (1, 1), (1, 1), (13, 1), (1, 2)):  # its last 15 s begin with the fifth question
        clock[0] += seconds
        await ask(server, "a.test")
        await eventually(lambda wanted=fetched: len(asked) == wanted)
    assert (await ask(server, "a.test")).answer[0].ttl == 30
    await there.close()


async def test_an_upstreams_failure_is_kept_for_a_moment(clock: list[float]) -> None:
    for block, questions in (("servfail 10s", 1), ("servfail 0s", 2)):
        asked: list[str] = []
        server, there = await cached(block, {"a.test.": "SERVFAIL"}, asked)
        for _ in range(2):
            assert outcome(await ask(server, "a.test")) == "SERVFAIL"
        assert len(asked) == questions
        clock[0] += 11
        await ask(server, "a.test")
        assert len(asked) == questions + 1
        await there.close()


async def test_an_upstream_that_is_down_is_passed_over_until_it_answers_a_probe() -> None:
    asked: list[str] = []
    there = await upstream({"a.test.": "10.0.0.1"}, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubelab.dns.plugins.forward.ATTEMPT", 0.5)
        patch.setattr("kubelab.dns.plugins.upstream.PROBE", 0.05)
        silent = listeners.bound(socket.SOCK_DGRAM, "127.0.0.1", 0)
        port = silent.getsockname()[1]
        server = configured(
            f""". {{
            forward . 127.0.0.1:{port} 127.0.0.1:{there.port} {{
                policy sequential
                max_fails 1
                health_check 10ms no_rec domain probe.test
                failfast_all_unhealthy_upstreams
            }}
            }}"""
        )
        (forward,) = server.plugins
        assert isinstance(forward, Forward)
        first, second = forward._servers
        assert texts(await ask(server, "a.test")) == ["10.0.0.1"]
        await eventually(lambda: first.down)
        assert sum(b"\1a\4test" in data for data in received(silent)) == 1
        assert texts(await ask(server, "a.test")) == ["10.0.0.1"]
        assert not any(b"\1a\4test" in data for data in received(silent)), "the one that is down is not asked"
        silent.close()
        back = await upstream({"a.test.": "10.0.0.2"}, asked, port=port)
        await eventually(lambda: not first.down)
        assert texts(await ask(server, "a.test")) == ["10.0.0.2"]
        assert "udp probe.test." in asked
        await there.close()
        await back.close()
        for one in (first, second):
            one.suspect()
            await eventually(lambda one=one: one.down)
        assert outcome(await ask(server, "a.test")) == "SERVFAIL"
        await forward.stop()


async def test_what_an_upstream_does_not_have_another_one_may() -> None:
    first, second = await upstream({}, []), await upstream({"a.test.": "10.0.0.1"}, [])
    server = configured(
        f"""test {{
        forward . 127.0.0.1:{first.port} {{
            next NXDOMAIN
        }}
        forward . 127.0.0.1:{second.port}
        }}"""
    )
    assert texts(await ask(server, "a.test")) == ["10.0.0.1"]
    assert outcome(await ask(server, "b.test")) == "NXDOMAIN"
    await first.close()
    await second.close()


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("forward . 127.0.0.1 {\n health_check 1s often\n }", "health_check: unknown option 'often'"),
        ("forward . 127.0.0.1 {\n next NOSUCH\n }", "'NOSUCH' is not a response code"),
        ("forward . 127.0.0.1 {\n tls_servername a\n }", "only plain DNS"),
        ("cache {\n servfail 10m\n }", "over 5 minutes"),
        ("cache {\n serve_stale 1h sometimes\n }", "immediate or verify"),
        ("cache {\n prefetch 3 1m 5%\n }", "'5' is not a number from 10 to 90"),
        ("cache {\n keepttl always\n }", "wrong argument count"),
    ],
)
async def test_options_that_cannot_be_done_are_refused(block: str, problem: str) -> None:
    with pytest.raises(CorefileError, match=re.escape(problem)):
        configured(f". {{\n {block}\n}}")

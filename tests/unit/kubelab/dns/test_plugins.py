"""Plugins beside `kubernetes`, each in a chain."""

from pathlib import Path

import dns.flags
import dns.message
import pytest
from dns.rcode import Rcode
from unit.kubelab.dns.asking import ask, configured, outcome, texts

from kubelab.dns import listeners
from kubelab.dns.listeners import Listener
from kubelab.dns.wire import Protocol

UPSTREAMS_TEST_SERVER = ". {\n\t\t\tlocal\n\t\t\tready\n\t\t\tlog\n\t\t\t}"
"""The Corefile of the DNS server that Cilium's connectivity test deploys."""


async def test_the_connectivity_tests_name_server(capsys: pytest.CaptureFixture[str]) -> None:
    server = configured(UPSTREAMS_TEST_SERVER)
    assert texts(await ask(server, "localhost")) == ["127.0.0.1"]
    assert texts(await ask(server, "localhost", "AAAA")) == ["::1"]
    assert texts(await ask(server, "localhost.test.svc.cluster.local")) == ["127.0.0.1"]
    assert texts(await ask(server, "1.0.0.127.in-addr.arpa", "PTR")) == ["localhost."]
    assert outcome(await ask(server, "localhost", "TXT")) == "NODATA"
    assert outcome(await ask(server, "2.0.0.127.in-addr.arpa", "PTR")) == "NXDOMAIN"
    assert outcome(await ask(server, "example.org")) == "SERVFAIL"
    assert '"A IN localhost. udp 27 false 512" NOERROR qr,aa,rd' in capsys.readouterr().out


async def test_errors_and_log_say_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    server = configured(". {\n errors\n log . {\n class denial\n }\n whoami\n}")
    assert outcome(await ask(server, "a.b")) == "NODATA"
    nobody = configured(". {\n errors {\n consolidate 5m \".*\"\n}\n}")  # fmt: skip
    for _ in range(2):
        assert outcome(await ask(nobody, "a.b")) == "SERVFAIL"
    said = capsys.readouterr().out
    assert said.count("[INFO]") == 1
    assert said.count("[ERROR] plugin/errors: 2 a.b. A: no next plugin found") == 1


async def test_hosts(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("10.0.0.1 one.test # first\nfd00::1 one.test\n")
    server = configured(
        ". {\n hosts hosts test {\n 10.0.0.2 two.test\n ttl 60\n fallthrough other.test\n }\n}", tmp_path / "Corefile"
    )
    assert texts(await ask(server, "ONE.test")) == ["10.0.0.1"]
    assert texts(await ask(server, "one.test", "AAAA")) == ["fd00::1"]
    assert (await ask(server, "two.test")).answer[0].ttl == 60
    assert texts(await ask(server, "1.0.0.10.in-addr.arpa", "PTR")) == ["one.test."]
    assert outcome(await ask(server, "one.test", "TXT")) == "NODATA"
    assert outcome(await ask(server, "none.test")) == "NXDOMAIN"
    assert outcome(await ask(server, "x.other.test")) == "SERVFAIL"
    (tmp_path / "hosts").write_text("10.0.0.3 three.test\n")
    assert outcome(await ask(server, "one.test")) == "NXDOMAIN"
    assert texts(await ask(server, "two.test")) == ["10.0.0.2"]


async def test_template_and_any() -> None:
    server = configured(
        """. {
        any
        template IN A test {
            match ^ip-(?P<a>[0-9]+)-(?P<b>[0-9]+)[.]test[.]$
            answer "{{ .Name }} 60 IN A 10.1.{{ .Group.a }}.{{ index .Match 2 }}"
            fallthrough
        }
        template ANY ANY refused.test { rcode REFUSED }
        }"""
    )
    assert texts(await ask(server, "ip-3-4.test")) == ["10.1.3.4"]
    assert (await ask(server, "x.refused.test")).rcode() == Rcode.REFUSED
    assert texts(await ask(server, "a.test", "ANY")) == ['"ANY obsoleted" "See RFC 8482"']


async def upstream(answers: dict[str, str], asked: list[str], *, cut: bool = False) -> Listener:
    """A name server on loopback; `cut`: over UDP it says to come by TCP."""

    async def answer(data: bytes, _peer: str, _port: int, protocol: Protocol) -> bytes:
        message = dns.message.from_wire(data)
        name = message.question[0].name.to_text().lower()
        asked.append(f"{protocol} {name}")
        response = dns.message.make_response(message, recursion_available=True)
        if cut and protocol == "udp":
            response.flags |= dns.flags.TC
        elif name in answers:
            response.answer.append(dns.rrset.from_text(message.question[0].name, 100, "IN", "A", answers[name]))
        else:
            response.set_rcode(Rcode.NXDOMAIN)
            soa = "ns. hostmaster. 1 2 3 4 7"
            response.authority.append(dns.rrset.from_text("test.", 100, "IN", "SOA", soa))
        return response.to_wire()

    return await Listener.open("127.0.0.1", 0, answer)


async def test_forward_and_cache() -> None:
    asked: list[str] = []
    there = await upstream({"a.test.": "10.0.0.1", "b.test.": "10.0.0.2"}, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubelab.dns.plugins.forward.ATTEMPT", 0.2)
        silent = listeners.bound(listeners.socket.SOCK_DGRAM, "127.0.0.1", 0)
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


async def test_a_loop_ends_the_process() -> None:
    server = configured(". {\n loop\n whoami\n}")
    (loop, _) = server.plugins
    name = loop._probe.to_text()
    for _ in range(2):
        await ask(server, name, "HINFO")
    with pytest.raises(SystemExit, match=r"Loop .* detected for zone"):
        await ask(server, name, "HINFO")

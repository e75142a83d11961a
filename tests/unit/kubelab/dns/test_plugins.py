"""Plugins beside `kubernetes`, each in a chain."""

from pathlib import Path

import pytest
from dns.rcode import Rcode
from unit.kubelab.dns.asking import ask, configured, outcome, texts

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


async def test_a_loop_ends_the_process() -> None:
    server = configured(". {\n loop\n whoami\n}")
    (loop, _) = server.plugins
    name = loop._probe.to_text()
    for _ in range(2):
        await ask(server, name, "HINFO")
    with pytest.raises(SystemExit, match=r"Loop .* detected for zone"):
        await ask(server, name, "HINFO")

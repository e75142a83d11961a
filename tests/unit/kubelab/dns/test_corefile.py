"""Corefiles: what they say, and what is wrong in them."""

import dns.name
import pytest
from unit.kubelab.dns.asking import configured

from kubelab.dns.corefile import CorefileError, Directive, parse

KUBEADM = """
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . 10.0.0.1 {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_the_file_that_kubeadm_writes() -> None:
    names = [plugin.name for plugin in configured(KUBEADM).plugins]
    assert names.index("cache") < names.index("kubernetes") < names.index("forward")
    assert len(names) == 10


def test_blocks_zones_ports_and_snippets() -> None:
    one, two = parse(
        """# a comment
        (common) {
            errors
        }
        example.org:1053, dns://Sub.example.org,
        10.1.0.0/16 {
            import common
            hosts /etc/hosts "a b" { ttl 5 }
        }
        {$ZONE} {
        }""",
        {"ZONE": "cluster.local"},
    )
    assert [(str(zone), port) for zone, port in one.zones] == [
        ("example.org.", 1053), ("sub.example.org.", 53), ("1.10.in-addr.arpa.", 53)
    ]  # fmt: skip
    assert [directive.name for directive in one.directives] == ["errors", "hosts"]
    assert one.directives[1].arguments == ("/etc/hosts", "a b")
    assert one.directives[1].block == (Directive("ttl", ("5",), 8),)
    assert two.zones == ((dns.name.from_text("cluster.local."), 53),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (". {\n  autopath a\n}", r"Corefile:2 - .*Unknown directive 'autopath': there are any, bind"),
        (". {\n  errors\n", "Corefile:1 - .*never closed"),
        (".\nerrors", "Corefile:1 - .*'{' expected after ."),
        (". {\n errors\n errors\n}", "Corefile:3 - .*plugin/errors: .*only be used once"),
        (". {\n}\n.:53 {\n}", r"Corefile:3 - .*cannot serve dns://.:53 .* line 1"),
        ("tls://. {\n}", "Corefile:1 - .*only dns://"),
        (". {\n kubernetes {\n  pods some\n }\n}", "plugin/kubernetes: wrong value for pods: some"),
        (". {\n kubernetes {\n\n  color red\n }\n}", "Corefile:4 - .*plugin/kubernetes: unknown property 'color'"),
        (". {\n forward . nowhere\n}", "plugin/forward: not an IP address or file: 'nowhere'"),
        (". {\n forward . /no/such/file\n}", "plugin/forward: /no/such/file: No such file"),
        (". {\n health {\n lameduck 5 \n}\n}", "plugin/health: invalid duration '5'"),
        (". {\n reload 1s\n}", "greater or equal to 2s"),
        (". {\n template IN A {\n answer \"{{ .Nome }} 1 IN A 1.1.1.1\"\n}\n}", "there are .Name"),
        (". {\n hosts {\n 1.2.3 name\n}\n}", "plugin/hosts: '1.2.3'"),
        (". {\n import other.conf\n}", "only snippets are imported"),
    ],
)  # fmt: skip
def test_mistakes_name_line_and_plugin(text: str, message: str) -> None:
    with pytest.raises(CorefileError, match=message):
        configured(text)

"""The expectations file: what it says, and every mistake named with line, path and the way out."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.expectations import Port, parse
from cilium.connectivity.policy_tests.places import Form, parse_place

FILE = Path("expectations.yaml")


def test_everything_that_can_be_said() -> None:
    (one, other) = parse(
        FILE,
        """
# a comment
- from: [shop/web, "shop/app=web,tier.example.com/name=x"]
  to: 198.51.100.0/24
  ports: [8080, http/tcp, 53/UDP, ICMP]
  families: [IPv6]
  expect: denied
  deniedBy: [CiliumNetworkPolicy shop/x, CiliumClusterwideNetworkPolicy wide]

- {from: world, to: svc/shop/web, path: /a, expect: allowed}
""",
    )
    assert (one.line, other.line) == (3, 10)
    assert [place.form for place in one.sources] == [Form.NAMED, Form.SELECTED]
    assert one.sources[1].labels == (("app", "web"), ("tier.example.com/name", "x"))
    assert one.targets[0].network == ip_network("198.51.100.0/24")
    assert one.ports == (Port("TCP", 8080), Port("TCP", 0, "http"), Port("UDP", 53), Port("ICMP"))
    assert (one.families, one.allowed) == ((6,), False)
    assert one.decided_by == ("CiliumNetworkPolicy shop/x", "CiliumClusterwideNetworkPolicy wide")
    assert (other.sources[0].form, other.targets[0].kind, other.path) == (Form.WORLD, "Service", "/a")
    assert (other.ports, other.families, other.allowed) == ((), (), True)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{to: a/b, expect: allowed}", "[0].from: is missing"),
        ("{from: a/b, to: a/c}", "[0].expect: is missing: write allowed or denied"),
        ("{from: a/b, to: a/c, expect: maybe}", "[0].expect: 'maybe': write allowed or denied"),
        ("{from: a/b, to: [a/c, backend], expect: denied}", "[0].to[1]: 'backend': write NAMESPACE/NAME"),
        ("{from: [a/x=y,z=w], to: a/c, expect: denied}", "several labels are written in quotes"),
        ("{from: a/b, to: api.example.com, expect: denied}", "names of the DNS are not probed, give an address"),
        ("{from: a/b, to: 10.0.0.1/8, expect: denied}", "[0].to: '10.0.0.1/8': no address and no CIDR"),
        (
            "{from: ingress/a/b, to: a/c, expect: denied}",
            "[0].from: 'ingress/a/b': kind 'ingress': write KIND/NAMESPACE/NAME",
        ),
        ("{from: a/b, to: a/c, expect: denied, ports: [0]}", "[0].ports[0]: '0': write PORT/TCP"),
        ("{from: a/b, to: a/c, expect: denied, ports: 80/SCTP}", "[0].ports: '80/SCTP': the protocol is TCP or UDP"),
        ("{from: a/b, to: a/c, expect: denied, ports: []}", "[0].ports: is empty"),
        ("{from: a/b, to: a/c, expect: denied, families: [ipv4]}", "[0].families[0]: 'ipv4': write IPv4 or IPv6"),
        ("{from: a/b, to: a/c, expect: denied, denied-by: x}", "[0].denied-by: unknown field; there are from, to"),
        ("{from: a/b, to: a/c, expect: allowed, deniedBy: NetworkPolicy a/b}", "[0].deniedBy: does not go with"),
        ("{from: a/b, to: a/c, expect: denied, deniedBy: [Policy a/b]}", "[0].deniedBy[0]: 'Policy a/b': write KIND"),
        ("{from: a/b, to: a/c, expect: denied, ports: [53/UDP], path: /x}", "[0].path: is asked by HTTP"),
        ('{from: a/b, to: a/c, expect: denied, path: "x y"}', "[0].path: 'x y': a path begins with /"),
        ("just words", "[0]: an expectation has from, to and expect"),
    ],
)
def test_a_mistake_names_file_line_and_path(entry: str, problem: str) -> None:
    with pytest.raises(WrongTestError) as caught:
        parse(FILE, f"# first line\n- {entry}\n")
    assert str(caught.value).startswith("expectations.yaml:2: [0]")
    assert problem in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(WrongTestError) as caught:
        parse(FILE, "- {from: a, to: b, expect: c}\n- {from: a/b}\n")
    assert len(str(caught.value).splitlines()) == 5


@pytest.mark.parametrize("text", ["a: [", "from: a/b", "", "3", "- a\n--- \n- b"])
def test_no_list_is_no_expectations(text: str) -> None:
    with pytest.raises(WrongTestError, match=r"expectations\.yaml: "):
        parse(FILE, text)


@given(st.text() | st.integers() | st.none() | st.lists(st.text()))
def test_any_word_is_a_place_or_says_what_can_be_written(word: object) -> None:
    said, place = "", None
    try:
        place = parse_place(word)
    except ValueError as error:
        said = str(error)
    assert place.text == word if place is not None else repr(word) in said


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("host:node1", Form.HOST), ("2001:db8::1", Form.NETWORK), ("fe80::/10", Form.NETWORK),
        ("10.0.0.1", Form.NETWORK),
        ("3scale/web", Form.NAMED), ("deploy/a/b", Form.NAMED), ("job/a/b", Form.NAMED), ("a/x.io/y=z", Form.SELECTED),
    ],
)  # fmt: skip
def test_forms(word: str, form: Form) -> None:
    assert parse_place(word).form is form

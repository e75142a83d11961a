"""Names of a cluster, by the DNS specification of Kubernetes."""

import pytest
from dns.rdatatype import RdataType
from unit.kubelab.dns import objects
from unit.kubelab.dns.asking import ask, configured, kubernetes, outcome, texts

from kubelab.dns.chain import Configuration

COREFILE = """
.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods PODS
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    template ANY ANY example.org { answer "{{ .Name }} 60 IN A 203.0.113.9" }
    whoami
}
"""


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Configuration:
    made = configured(COREFILE.replace("PODS", getattr(request, "param", "insecure")))
    index = kubernetes(made).index
    index.replace("namespaces", [objects.namespace(name) for name in ("shop", "kube-system", "empty")])
    index.replace(
        "services",
        [
            objects.service("web", "10.96.7.7", "fd00:10:96::7", http="80", metrics="9090"),
            objects.service("db", sql="5432"),
            objects.service("nobody", x="1"),
            objects.service("away", external="www.example.org"),
            objects.service("near", external="web.shop.svc.cluster.local"),
            objects.service("round", external="round.shop.svc.cluster.local"),
            objects.service("kube-dns", "10.96.0.10", namespace="kube-system", dns="53/UDP"),
        ],
    )
    db = [objects.endpoint("10.1.0.1", hostname="db-0"), objects.endpoint("10.1.0.2", hostname="db-1")]
    late = objects.endpoint("10.1.0.3", hostname="db-2", ready=False)
    v6 = objects.endpoint("fd00:1::1", hostname="db-0")
    index.replace(
        "endpointslices",
        [
            objects.endpoint_slice("db-4", "db", *db, late, objects.endpoint("10.1.0.4"), sql="5432"),
            objects.endpoint_slice("db-6", "db", v6, sql="5432"),
            objects.endpoint_slice("web-4", "web", objects.endpoint("10.1.0.9", pod="web-abc"), http="8080"),
        ],
    )
    index.replace("pods", [objects.pod("web-abc", "10.1.0.9", "fd00:1::9")])
    return made


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.shop.svc.cluster.local", "A", ["10.96.7.7"]),
        ("WEB.Shop.svc.Cluster.Local", "AAAA", ["fd00:10:96::7"]),
        ("db.shop.svc.cluster.local", "A", ["10.1.0.1", "10.1.0.2", "10.1.0.4"]),
        ("db.shop.svc.cluster.local", "AAAA", ["fd00:1::1"]),
        ("db-0.db.shop.svc.cluster.local", "A", ["10.1.0.1"]),
        ("10-1-0-4.db.shop.svc.cluster.local", "A", ["10.1.0.4"]),
        ("10-1-0-9.web.shop.svc.cluster.local", "A", ["10.1.0.9"]),
        ("1-2-3-4.shop.pod.cluster.local", "A", ["1.2.3.4"]),
        ("fd00--12.shop.pod.cluster.local", "AAAA", ["fd00::12"]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
        ("cluster.local", "NS", ["ns.dns.cluster.local."]),
        ("ns.dns.cluster.local", "A", ["10.96.0.10"]),
        ("7.7.96.10.in-addr.arpa", "PTR", ["web.shop.svc.cluster.local."]),
        ("2.0.1.10.in-addr.arpa", "PTR", ["db-1.db.shop.svc.cluster.local."]),
        ("1" + ".0" * 23 + ".1.0.0.0.0.0.d.f.ip6.arpa", "PTR", ["db-0.db.shop.svc.cluster.local."]),
        ("away.shop.svc.cluster.local", "CNAME", ["www.example.org."]),
        ("away.shop.svc.cluster.local", "A", ["www.example.org.", "203.0.113.9"]),
        ("near.shop.svc.cluster.local", "AAAA", ["web.shop.svc.cluster.local.", "fd00:10:96::7"]),
        ("_http._tcp.web.shop.svc.cluster.local", "A", ["10.96.7.7"]),
    ],
)
async def test_names(cluster: Configuration, name: str, kind: str, expected: list[str]) -> None:
    found = await ask(cluster, name, kind)
    assert sorted(texts(found)) == sorted(expected)
    assert found.question[0].name.to_text(omit_final_dot=True) == name
    assert all(record.ttl == 30 for record in found.answer if "cluster" in str(record.name).lower())


async def test_ports(cluster: Configuration) -> None:
    found = await ask(cluster, "_http._tcp.web.shop.svc.cluster.local", "SRV")
    assert texts(found) == ["0 100 80 web.shop.svc.cluster.local."]
    assert sorted(str(record[0]) for record in found.additional) == ["10.96.7.7", "fd00:10:96::7"]
    every = await ask(cluster, "web.shop.svc.cluster.local", "SRV")
    assert len(texts(every)) == 2
    members = await ask(cluster, "_sql._tcp.db.shop.svc.cluster.local", "SRV", "tcp")
    assert sorted(text.split()[3].partition(".")[0] for text in texts(members)) == ["10-1-0-4", "db-0", "db-1"]
    assert len(members.additional) == 4


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.shop.svc.cluster.local", "TXT", "NODATA"),
        ("kube-dns.kube-system.svc.cluster.local", "AAAA", "NODATA"),
        ("shop.svc.cluster.local", "A", "NODATA"),
        ("svc.cluster.local", "A", "NODATA"),
        ("cluster.local", "A", "NODATA"),
        ("missing.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("web.missing.svc.cluster.local", "A", "NXDOMAIN"),
        ("missing.svc.cluster.local", "A", "NXDOMAIN"),
        ("nobody.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("db-2.db.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("*.shop.svc.cluster.local", "A", "NXDOMAIN"),
        ("_https._tcp.web.shop.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("_http._udp.web.shop.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("web.shop.cluster.local", "A", "NXDOMAIN"),
        ("1-2-3.shop.pod.cluster.local", "A", "NXDOMAIN"),
        ("1-2-3-4.missing.pod.cluster.local", "A", "NXDOMAIN"),
    ],
)
async def test_what_has_no_answer_says_until_when(cluster: Configuration, name: str, kind: str, expected: str) -> None:
    found = await ask(cluster, name, kind)
    assert outcome(found) == expected
    assert [record.rdtype for record in found.authority] == [RdataType.SOA]
    assert found.authority[0][0].minimum == 30


async def test_reverse_names_of_others_fall_through(cluster: Configuration) -> None:
    found = await ask(cluster, "9.9.9.9.in-addr.arpa", "PTR")
    assert next(str(record[0]) for record in found.additional) == "10.0.0.9"  # whoami had it


async def test_an_alias_of_itself_ends(cluster: Configuration) -> None:
    assert len((await ask(cluster, "round.shop.svc.cluster.local")).answer) >= 1


@pytest.mark.parametrize("cluster", ["verified", "disabled"], indirect=True)
async def test_pods_may_have_to_exist(cluster: Configuration) -> None:
    verified = "pods" in kubernetes(cluster).index.collections
    there = await ask(cluster, "10-1-0-9.shop.pod.cluster.local")
    assert texts(there) == (["10.1.0.9"] if verified else [])
    assert outcome(await ask(cluster, "10-1-0-8.shop.pod.cluster.local")) == "NXDOMAIN"


async def test_changes(cluster: Configuration) -> None:
    index = kubernetes(cluster).index
    index.change("endpointslices", "MODIFIED", objects.endpoint_slice("db-4", "db", objects.endpoint("10.1.0.5")))
    assert texts(await ask(cluster, "db.shop.svc.cluster.local")) == ["10.1.0.5"]
    assert outcome(await ask(cluster, "2.0.1.10.in-addr.arpa", "PTR")) == "NODATA"  # fell through
    index.change("services", "DELETED", objects.service("web", "10.96.7.7"))
    assert outcome(await ask(cluster, "web.shop.svc.cluster.local")) == "NXDOMAIN"
    index.change("services", "ADDED", objects.service("other", "10.96.7.7"))
    assert texts(await ask(cluster, "7.7.96.10.in-addr.arpa", "PTR")) == ["other.shop.svc.cluster.local."]
    index.replace("services", [])  # a list after an outage: what it lacks is gone
    assert outcome(await ask(cluster, "other.shop.svc.cluster.local")) == "NXDOMAIN"


async def test_before_the_api_server_was_heard_of() -> None:
    fresh = configured(COREFILE.replace("PODS", "insecure"))
    assert outcome(await ask(fresh, "web.shop.svc.cluster.local")) == "SERVFAIL"
    assert not kubernetes(fresh).ready()
    assert texts(await ask(fresh, "www.example.org")) == ["203.0.113.9"]

"""resolv.conf and hosts of a pod, as a kubelet writes them."""

from typing import Any

import pytest

from kubelab.kubelet.config import KubeletConfig
from kubelab.kubelet.etc_files import hosts, parse, refusal, resolver

NODE = "nameserver 192.0.2.1\ndomain old.test\nsearch node.test .\noptions edns0\noptions timeout:1\n"
CLUSTER = "search shop.svc.cluster.local svc.cluster.local cluster.local node.test\nnameserver 10.96.0.10\n"


def config(*servers: str) -> KubeletConfig:
    return KubeletConfig(
        node="node1", addresses=("192.0.2.9",), server="https://192.0.2.2:6443", ca="", certificate="", key="",
        socket="", socket_outside="", cluster_dns=servers,
    )  # fmt: skip


def written(servers: tuple[str, ...] = ("10.96.0.10",), **spec: Any) -> str:
    return resolver({"metadata": {"namespace": "shop", "name": "p"}, "spec": spec}, config(*servers), NODE).text()


def test_policies() -> None:
    assert written() == written(dnsPolicy="ClusterFirst") == CLUSTER + "options ndots:5\n"
    assert written(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True) == CLUSTER + "options ndots:5\n"
    own = "search node.test\nnameserver 192.0.2.1\noptions edns0 timeout:1\n"
    assert written(dnsPolicy="Default") == written(hostNetwork=True, dnsPolicy="ClusterFirst") == written(()) == own
    assert written(dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1"]}) == "nameserver 1.1.1.1\n"


def test_a_pods_own_configuration_comes_behind_and_its_options_win() -> None:
    options = [{"name": "ndots", "value": "2"}, {"name": "edns0"}]
    more = {"nameservers": ["10.96.0.10", "1.1.1.1"], "searches": ["cluster.local", "x.test"], "options": options}
    assert written(dnsConfig=more) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local node.test x.test\n"
        "nameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n"
    )


def test_limits_of_the_c_library() -> None:
    many = {"nameservers": [f"1.1.1.{number}" for number in range(9)], "searches": [f"s{n}.test" for n in range(40)]}
    lines = written(dnsConfig=many).splitlines()
    assert sum(line.startswith("nameserver") for line in lines) == 3
    assert len(lines[0].split()) == 33


@pytest.mark.parametrize(("subdomain", "names"), [("", "p"), ("db", "p.db.shop.svc.cluster.local\tp")])
def test_hosts(subdomain: str, names: str) -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"subdomain": subdomain, "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]},
    }
    text = hosts(pod, ("10.0.0.1", "fd00::1"))
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert f"10.0.0.1\t{names}\nfd00::1\t{names}\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_an_empty_file() -> None:
    assert parse("# nothing\n").text() == ""


def test_a_full_name_that_linux_does_not_take_is_refused() -> None:
    spec = {"subdomain": "db", "setHostnameAsFQDN": True}
    meta = {"name": "p" * 40, "namespace": "shop"}
    full = f"{'p' * 40}.db.shop.svc.cluster.local"
    assert f"FQDN {full} is too long (64 characters is the max, 66 characters requested)" in refusal(
        {"metadata": meta, "spec": spec}
    )
    assert refusal({"metadata": meta, "spec": {"subdomain": "db"}}) == ""

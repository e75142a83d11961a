"""What every cluster has: manifests that the API server takes, with a Corefile that the name server takes."""

import pytest

from kubelab.dns.corefile import parse
from kubelab.lab import addons
from kubelab.lab.options import LabOptions


def by_kind(options: LabOptions) -> dict[str, addons.Object]:
    return {manifest["kind"]: manifest for manifest in addons.manifests(options)}


@pytest.mark.parametrize(
    ("families", "addresses", "policy"),
    [
        ((4, 6), ["10.96.0.10", "fd00:10:96::a"], "RequireDualStack"),
        ((4,), ["10.96.0.10"], "SingleStack"),
        ((6,), ["fd00:10:96::a"], "SingleStack"),
    ],
)
def test_kube_dns_has_the_families_of_the_lab(families: tuple[int, ...], addresses: list[str], policy: str) -> None:
    service = by_kind(LabOptions(dns=True, families=families))["Service"]
    assert service["metadata"]["labels"]["kubernetes.io/name"] == "CoreDNS"
    assert service["spec"]["clusterIPs"] == addresses
    assert service["spec"]["ipFamilyPolicy"] == policy
    assert service["spec"]["ipFamilies"] == [f"IPv{family}" for family in families]


def test_the_deployment_reads_the_config_map() -> None:
    found = by_kind(LabOptions(dns=True))
    (block,) = parse(found["ConfigMap"]["data"]["Corefile"], {})
    assert [directive.name for directive in block.directives if directive.name == "kubernetes"]
    pod = found["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"] == found["Service"]["spec"]["selector"]
    assert pod["spec"]["dnsPolicy"] == "Default"
    assert found["ClusterRoleBinding"]["subjects"][0]["name"] == pod["spec"]["serviceAccountName"]


def test_a_lab_without_services_has_no_name_server() -> None:
    kinds = {manifest["kind"] for manifest in addons.manifests(LabOptions())}
    assert kinds == {"APIService", "ClusterRole"}  # of metrics

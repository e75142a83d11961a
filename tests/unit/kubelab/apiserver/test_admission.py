"""What each kind fills in and refuses."""

import copy
import ipaddress
from typing import Any

import pytest

from kubelab.apiserver import errors
from kubelab.apiserver.strategies.services import SERVICE_RANGES

PORTS = [{"port": 80}]


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": copy.deepcopy(PORTS), **spec}}


def fields(error: errors.ApiError) -> list[str]:
    return [cause.field for cause in error.causes]


async def refused(store, resource: str, obj: dict[str, Any]) -> errors.Invalid:
    before = store.version
    with pytest.raises(errors.Invalid) as caught:
        await store.create(resource, obj, namespace="default")
    assert store.version == before
    return caught.value


async def test_services_get_addresses_of_both_families(store):
    created = await store.create("services", service(ipFamilyPolicy="RequireDualStack"), namespace="default")
    four, six = created["spec"]["clusterIPs"]
    assert ipaddress.ip_address(four) in SERVICE_RANGES[0]
    assert ipaddress.ip_address(six) in SERVICE_RANGES[1]
    assert created["spec"]["clusterIP"] == four
    assert created["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    assert created["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]


async def test_service_addresses_are_unique_and_come_back(store):
    wanted = service("first", clusterIP="10.96.0.10")
    await store.create("services", wanted, namespace="default")
    error = await refused(store, "services", service("second", clusterIP="10.96.0.10"))
    assert "already allocated" in error.message
    await store.delete("services", "first", namespace="default")
    again = await store.create("services", service("second", clusterIP="10.96.0.10"), namespace="default")
    assert again["spec"]["clusterIPs"] == ["10.96.0.10"]
    error = await refused(store, "services", service("third", clusterIP="10.97.0.1"))
    assert "not in the valid range" in error.message


async def test_headless_and_external_name_services_take_no_address(store):
    headless = await store.create("services", service("h", clusterIP="None"), namespace="default")
    assert headless["spec"]["clusterIPs"] == ["None"]
    external = {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}
    created = await store.create("services", external, namespace="default")
    assert "clusterIP" not in created["spec"]


async def test_node_ports_are_given_kept_and_refused(store):
    created = await store.create("services", service(type="NodePort"), namespace="default")
    port = created["spec"]["ports"][0]["nodePort"]
    assert 30000 <= port <= 32767
    changed = await store.patch("services", "web", {"spec": {"ports": [{"port": 81}]}}, namespace="default")
    assert changed["spec"]["ports"][0]["nodePort"] != 0
    taken = changed["spec"]["ports"][0]["nodePort"]
    error = await refused(store, "services", service("b", type="NodePort", ports=[{"port": 1, "nodePort": taken}]))
    assert fields(error) == ["spec.ports[0].nodePort"]
    error = await refused(store, "services", service("b", type="NodePort", ports=[{"port": 1, "nodePort": 80}]))
    assert "30000-32767" in error.message
    plain = await store.patch(
        "services", "web", {"spec": {"type": "ClusterIP", "ports": [{"port": 81}]}}, namespace="default"
    )
    assert "nodePort" not in plain["spec"]["ports"][0]


async def test_health_check_ports_are_given_kept_and_go(store):
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    created = await store.create("services", service(**local), namespace="default")
    port = created["spec"]["healthCheckNodePort"]
    assert 30000 <= port <= 32767
    assert port != created["spec"]["ports"][0]["nodePort"]
    changed = await store.patch("services", "web", {"spec": {"ports": [{"port": 81}]}}, namespace="default")
    assert changed["spec"]["healthCheckNodePort"] == port
    error = await refused(store, "services", service("b", healthCheckNodePort=port, **local))
    assert fields(error) == ["spec.healthCheckNodePort"]
    error = await refused(store, "services", service("b", type="NodePort", ports=[{"port": 1, "nodePort": port}]))
    assert fields(error) == ["spec.ports[0].nodePort"]
    error = await refused(store, "services", service("b", healthCheckNodePort=80, **local))
    assert "30000-32767" in error.message
    error = await refused(store, "services", service("b", type="LoadBalancer", healthCheckNodePort=31999))
    assert fields(error) == ["spec.healthCheckNodePort"]
    everywhere = {"spec": {"externalTrafficPolicy": "Cluster"}}
    plain = await store.patch("services", "web", everywhere, namespace="default")
    assert "healthCheckNodePort" not in plain["spec"]
    chosen = await store.create("services", service("c", healthCheckNodePort=port, **local), namespace="default")
    assert chosen["spec"]["healthCheckNodePort"] == port


async def test_the_cluster_ip_never_changes(store):
    await store.create("services", service(), namespace="default")
    with pytest.raises(errors.Invalid, match="may not change once set"):
        await store.patch(
            "services", "web", {"spec": {"clusterIP": "10.96.200.200", "clusterIPs": None}}, namespace="default"
        )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "Bad_Name", "image": "i"}]}, "spec.containers[0].name"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image"),
        ({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}, "spec.containers[1].name"),
        (
            {"containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 70000}]}]},
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            {"containers": [{"name": "a", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
            "spec.containers[0].volumeMounts[0].name",
        ),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
        ({"containers": [{"name": "a", "image": "i", "env": [{"value": "x"}]}]}, "spec.containers[0].env[0].name"),
    ],
)
async def test_pods_are_refused_with_the_field(store, pod, change, field):
    wanted = pod()
    wanted["spec"].update(change)
    assert field in fields(await refused(store, "pods", wanted))


async def test_a_pod_spec_is_fixed_but_for_its_images(store, pod):
    await store.create("pods", pod(), namespace="default")
    image = {"spec": {"containers": [{"name": "main", "image": "busybox:2", "imagePullPolicy": "IfNotPresent"}]}}
    changed = await store.patch("pods", "web", image, namespace="default")
    assert changed["spec"]["containers"][0]["image"] == "busybox:2"
    more = {"name": "main", "resources": {"limits": {"cpu": "2"}}}
    for change in ({"hostNetwork": True}, {"containers": [{**image["spec"]["containers"][0], **more}]}):
        with pytest.raises(errors.Invalid, match="pod updates may not change fields"):
            await store.patch("pods", "web", {"spec": change}, namespace="default")


async def test_a_workloads_selector_matches_its_template_and_is_fixed(store):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": "other"}}, "template": template}
    error = await refused(store, "deployments.apps", {"metadata": {"name": "web"}, "spec": spec})
    assert fields(error) == ["spec.template.metadata.labels"]
    spec["selector"] = {"matchLabels": {"app": "web"}}
    created = await store.create("deployments.apps", {"metadata": {"name": "web"}, "spec": spec}, namespace="default")
    assert created["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    changed = copy.deepcopy(created)
    changed["spec"]["selector"]["matchLabels"] = {"app": "new"}
    changed["spec"]["template"]["metadata"]["labels"] = {"app": "new"}
    with pytest.raises(errors.Invalid, match=r"spec.selector: .*field is immutable"):
        await store.update("deployments.apps", changed)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}, "spec.ingress[0].from[0].ipBlock.cidr"),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]},
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "2001:db8::/32", "except": ["10.0.0.0/9"]}}]},
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
        ({"from": [{}]}, "spec.ingress[0].from[0]"),
        ({"ports": [{"port": 80, "endPort": 70}]}, "spec.ingress[0].ports[0].endPort"),
        ({"ports": [{"protocol": "ICMP"}]}, "spec.ingress[0].ports[0].protocol"),
    ],
)
async def test_network_policies_are_refused_with_the_field(store, rule, field):
    policy = {"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [rule]}}
    assert fields(await refused(store, "networkpolicies.networking.k8s.io", policy)) == [field]


async def test_network_policy_types_follow_the_rules(store):
    policy = {"metadata": {"name": "p"}, "spec": {"podSelector": {}, "egress": [{}]}}
    created = await store.create("networkpolicies.networking.k8s.io", policy, namespace="default")
    assert created["spec"]["policyTypes"] == ["Ingress", "Egress"]


async def test_secrets_encode_plain_text_and_refuse_bad_base64(store):
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    created = await store.create("secrets", secret, namespace="default")
    assert created["data"] == {"a": "Yg=="}
    assert created["type"] == "Opaque"
    assert "stringData" not in created
    error = await refused(store, "secrets", {"metadata": {"name": "t"}, "data": {"a": "%%"}})
    assert fields(error) == ["data[a]"]


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "a" * 254, "a..b"])
async def test_names_follow_rfc_1123(store, name):
    error = await refused(store, "configmaps", {"metadata": {"name": name}})
    assert fields(error) == ["metadata.name"]


async def test_labels_are_checked(store):
    error = await refused(
        store, "configmaps", {"metadata": {"name": "c", "labels": {"bad key": "x", "ok": "bad value"}}}
    )
    assert fields(error) == ["metadata.labels", "metadata.labels"]


async def test_the_pod_cidrs_of_a_node_are_set_once(store):
    await store.create("nodes", {"metadata": {"name": "n1"}})
    await store.patch("nodes", "n1", {"spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}})
    assert (await store.get("nodes", "n1"))["spec"]["podCIDR"] == "10.0.0.0/24"
    with pytest.raises(errors.Invalid, match="may not change once set"):
        await store.patch("nodes", "n1", {"spec": {"podCIDRs": ["10.9.0.0/24"]}})

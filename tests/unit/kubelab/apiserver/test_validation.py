"""What the built-in kinds fill in and refuse, in the words of the real server."""

import copy
from typing import Any

import pytest

from kubelab.apiserver import errors
from kubelab.apiserver.strategies import services

Object = dict[str, Any]


async def refused(store, resource: str, obj: Object) -> errors.Invalid:
    with pytest.raises(errors.Invalid) as caught:
        await store.create(resource, obj, namespace="default")
    return caught.value


def with_container(**fields: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1", **fields}]}}


HTTP = {"httpGet": {"port": 80}}


@pytest.mark.parametrize(
    ("container", "field", "message"),
    [
        (
            {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}},
            "resources.requests",
            'Invalid value: "2": must be less than or equal to cpu limit of 1500m',
        ),
        (
            {"resources": {"limits": {"memory": "-1Gi"}}},
            "resources.limits[memory]",
            'Invalid value: "-1Gi": must be greater than or equal to 0',
        ),
        (
            {"ports": [{"name": "web", "containerPort": 1}, {"name": "web", "containerPort": 2}]},
            "ports[1].name",
            'Duplicate value: "web"',
        ),
        ({"ports": [{"name": "x" * 16, "containerPort": 1}]}, "ports[0].name", "must be no more than 15 characters"),
        ({"env": [{"name": "a=b"}]}, "env[0].name", "printable ASCII characters other than '='"),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            "env[0].valueFrom",
            "may not be specified when `value` is not empty",
        ),
        ({"livenessProbe": {**HTTP, "successThreshold": 2}}, "livenessProbe.successThreshold", "must be 1"),
        ({"readinessProbe": {}}, "readinessProbe", "Required value: must specify a handler type"),
        (
            {"readinessProbe": {**HTTP, "tcpSocket": {"port": 1}}},
            "readinessProbe.tcpSocket",
            "Forbidden: may not specify more than 1 handler type",
        ),
        ({"readinessProbe": {"httpGet": {"port": 0}}}, "readinessProbe.httpGet.port", "between 1 and 65535, inclusive"),
        ({"image": " i"}, "image", "must not have leading or trailing whitespace"),
        (
            {"name": "Bad"},
            "name",
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'",
        ),
    ],
)
async def test_containers(store, container, field, message):
    error = await refused(store, "pods", with_container(**container))
    told = {c.field: c.message for c in error.causes}
    assert message in told[f"spec.containers[0].{field}"]


NO_SELECTOR = {"matchExpressions": [{"key": "a", "operator": "Like"}]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NEAR = {"labelSelector": NO_SELECTOR, "topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
WRONG = "labelSelector.matchExpressions[0].operator"


async def test_selectors_that_nobody_can_read_are_not_kept(store):
    """What reads them when they are committed, or when a server starts, would end there."""
    webhook = {"name": "a.test.test", "clientConfig": {"url": "https://x/"}, "sideEffects": "None",
               "admissionReviewVersions": ["v1"], "rules": []}  # fmt: skip
    policy = {"matchConstraints": {"objectSelector": NO_SELECTOR}, "validations": [{"expression": "true"}]}
    binding = {"policyName": "p", "validationActions": ["Deny"]}
    for kind, place, body in (
        ("validatingwebhookconfigurations", "webhooks[0].namespaceSelector",
         {"webhooks": [{**webhook, "namespaceSelector": NO_SELECTOR}]}),
        ("validatingadmissionpolicies", "spec.matchConstraints.objectSelector", {"spec": policy}),
        ("validatingadmissionpolicybindings", "spec.matchResources.namespaceSelector",
         {"spec": {**binding, "matchResources": {"namespaceSelector": NO_SELECTOR}}}),
        ("validatingadmissionpolicybindings", "spec.paramRef.selector",
         {"spec": {**binding, "paramRef": {"selector": NO_SELECTOR, "parameterNotFoundAction": "Deny"}}}),
    ):  # fmt: skip
        with pytest.raises(errors.Invalid) as caught:
            await store.create(f"{kind}.admissionregistration.k8s.io", {"metadata": {"name": "p"}, **body})
        assert f"{place}.matchExpressions[0].operator" in [cause.field for cause in caught.value.causes]


def _item(kind, **more):
    return lambda path: {kind: {**more, "items": [{"key": "k", "path": path}]}}


def _projected(source):
    return lambda path: {"projected": {"sources": [source(path)]}}


SHOWN = [
    (_item("configMap", name="c"), "configMap.items[0]"),
    (_item("secret", secretName="c"), "secret.items[0]"),
    (_projected(_item("secret", name="c")), "projected.sources[0].secret.items[0]"),
    (
        _projected(lambda path: {"serviceAccountToken": {"path": path}}),
        "projected.sources[0].serviceAccountToken",
    ),
    (
        lambda path: {"downwardAPI": {"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]}},
        "downwardAPI.items[0]",
    ),
]
"""Volumes that show a file of that path, and the field that says so."""


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"volumes": [{"name": "v"}, {"name": "v"}]}, "spec.volumes[1].name", 'Duplicate value: "v"'),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]},
            "spec.volumes[0].configMap",
            "Forbidden: may not specify more than 1 volume type",
        ),
        *(
            ({"volumes": [{"name": "v", **volume(path)}]}, f"spec.volumes[0].{field}.path", why)
            for volume, field in SHOWN
            for path, why in (
                ("../../etc/passwd", "must not contain '..'"),
                ("a/../../b", "must not contain '..'"),
                ("/etc/passwd", "must be a relative path"),
                ("..data", "must not start with '..'"),
                ("", "Required value"),
            )
        ),
        ({"nodeSelector": {"a b": "c"}}, "spec.nodeSelector", "name part must consist of alphanumeric characters"),
        (
            {"tolerations": [{"operator": "Equal"}]},
            "spec.tolerations[0].operator",
            "operator must be Exists when",
        ),
        *(
            (
                {"affinity": {kind: {REQUIRED: [NEAR]}}},
                f"spec.affinity.{kind}.{REQUIRED}[0].{WRONG}",
                "Unsupported value",
            )
            for kind in ("podAffinity", "podAntiAffinity")
        ),
        ({"topologySpreadConstraints": [NEAR]}, f"spec.topologySpreadConstraints[0].{WRONG}", "Unsupported value"),
        ({"dnsPolicy": "None"}, "spec.dnsConfig.nameservers", "must provide at least one DNS nameserver"),
        ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds", "must be between 1 and 2147483647, inclusive"),
    ],
)
async def test_pod_specs(store, spec, field, message):
    wanted = with_container()
    wanted["spec"].update(spec)
    error = await refused(store, "pods", wanted)
    told = {c.field: c.message for c in error.causes}
    assert message in told[field]


async def test_what_a_pod_gets(store):
    projected = {"sources": [{"serviceAccountToken": {"path": "t"}}]}
    wanted = with_container(
        ports=[{"containerPort": 80}],
        resources={"limits": {"cpu": "1", "memory": "1Gi"}},
        livenessProbe={"grpc": {"port": 1}},
        lifecycle={"preStop": {"httpGet": {"port": 1}}},
        env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
    )
    wanted["spec"]["volumes"] = [{"name": "e"}, {"name": "p", "projected": projected}]
    spec = (await store.create("pods", wanted, namespace="default"))["spec"]
    container = spec["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    assert container["livenessProbe"] == {
        "grpc": {"port": 1, "service": ""},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["lifecycle"]["preStop"]["httpGet"] == {"port": 1, "path": "/", "scheme": "HTTP"}
    assert container["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"] == "0"
    assert spec["volumes"][0]["emptyDir"] == {}
    assert spec["volumes"][1]["projected"]["defaultMode"] == 0o644
    assert spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] == 3600
    assert (await store.get("pods", "p", namespace="default"))["status"]["qosClass"] == "Guaranteed"


async def test_what_an_update_of_a_pod_may_not_do(store):
    wanted = with_container()
    wanted["spec"]["tolerations"] = [{"key": "mine", "operator": "Exists"}]
    created = await store.create("pods", wanted, namespace="default")
    more = copy.deepcopy(created)
    more["spec"]["containers"].append({"name": "d", "image": "i"})
    with pytest.raises(errors.Invalid, match="pod updates may not add or remove containers"):
        await store.update("pods", more)
    tolerant = copy.deepcopy(created)
    tolerant["spec"]["tolerations"][0]["key"] = "other"
    with pytest.raises(errors.Invalid, match="existing toleration can not be modified except its tolerationSeconds"):
        await store.update("pods", tolerant)
    longer = copy.deepcopy(created)
    longer["spec"]["tolerations"][1]["tolerationSeconds"] = 9
    longer["spec"]["tolerations"].append({"key": "k", "operator": "Exists"})
    assert len((await store.update("pods", longer))["spec"]["tolerations"]) == 4


@pytest.mark.parametrize(
    ("resource", "name", "message"),
    [
        ("configmaps", "Upper", "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters"),
        ("configmaps", "a" * 254, "must be no more than 253 bytes"),
        ("services", "1a", "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with"),
    ],
)
async def test_names_are_explained(store, resource, name, message):
    spec = {"spec": {"ports": [{"port": 1}]}} if resource == "services" else {}
    error = await refused(store, resource, {"metadata": {"name": name}, **spec})
    assert [c.field for c in error.causes] == ["metadata.name"]
    assert message in error.message


async def test_keys_of_config_maps(store):
    error = await refused(store, "configmaps", {"metadata": {"name": "c"}, "data": {"a b": "", "..": ""}})
    assert [c.field for c in error.causes] == ["data[a b]", "data[..]"]
    both = {"metadata": {"name": "c"}, "data": {"a": ""}, "binaryData": {"a": ""}}
    assert "duplicate of key present in binaryData" in (await refused(store, "configmaps", both)).message


@pytest.mark.parametrize("field", ["externalTrafficPolicy", "internalTrafficPolicy", "trafficDistribution"])
async def test_services_choose_from_what_there_is(store, field):
    spec = {"type": "NodePort", "ports": [{"port": 80}], field: "Nearby"}
    error = await refused(store, "services", {"metadata": {"name": "a"}, "spec": spec})
    assert [(c.field, c.reason) for c in error.causes] == [(f"spec.{field}", "FieldValueNotSupported")]


async def test_ranges_that_are_full_are_the_servers_fault(store, monkeypatch):
    monkeypatch.setattr(services, "NODE_PORTS", range(30000, 30001))
    spec = {"type": "NodePort", "ports": [{"port": 80}]}
    await store.create("services", {"metadata": {"name": "a"}, "spec": spec}, namespace="default")
    with pytest.raises(errors.InternalError, match="failed to allocate a nodePort: range is full") as caught:
        await store.create("services", {"metadata": {"name": "b"}, "spec": spec}, namespace="default")
    assert caught.value.code == 500
    outside = {"metadata": {"name": "c"}, "spec": {"clusterIP": "10.97.0.1", "ports": [{"port": 80}]}}
    told = (await refused(store, "services", outside)).message
    assert "the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16" in told


async def test_kinds_that_are_kept_have_their_defaults(store):
    scaler = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    key = "horizontalpodautoscalers.autoscaling"
    made = await store.create(key, {"metadata": {"name": "h"}, "spec": scaler}, namespace="default")
    assert made["apiVersion"] == "autoscaling/v2"
    assert made["spec"]["minReplicas"] == 1
    assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 80
    wrong = {"metadata": {"name": "i"}, "spec": {**scaler, "minReplicas": 5}}
    assert "must be greater than or equal to `minReplicas`" in (await refused(store, key, wrong)).message

    client = {"service": {"namespace": "n", "name": "s"}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    hook = {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": client}
    key = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    made = await store.create(key, {"metadata": {"name": "w"}, "webhooks": [{**hook, "rules": [rule]}]})
    (kept,) = made["webhooks"]
    assert (kept["failurePolicy"], kept["timeoutSeconds"], kept["matchPolicy"]) == ("Fail", 10, "Equivalent")
    assert (kept["rules"][0]["scope"], kept["clientConfig"]["service"]["port"]) == ("*", 443)
    with pytest.raises(errors.Invalid, match="at least three segments"):
        await store.create(key, {"metadata": {"name": "v"}, "webhooks": [{**hook, "name": "a"}]})

    key = "priorityclasses.scheduling.k8s.io"
    made = await store.create(key, {"metadata": {"name": "high"}, "value": 10})
    with pytest.raises(errors.Invalid, match="value: Forbidden: may not be changed in an update"):
        await store.update(key, {**made, "value": 11})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": [{"type": "Cpu"}]}, 'spec.metrics[0].type: Unsupported value: "Cpu"'),
        ({"metrics": [{"type": "Pods"}]}, "spec.metrics[0].pods: Required value: must populate information"),
        (
            {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]},
            "must set either a target raw value or a target utilization",
        ),
        (
            {"metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "AverageValue", "averageValue": "0"}}}]},
            'spec.metrics[0].resource.target.averageValue: Invalid value: "0": must be positive',
        ),
        ({"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}}, "must be less than or equal to 3600"),
        ({"behavior": {"scaleDown": {"selectPolicy": "Most"}}}, 'scaleDown.selectPolicy: Unsupported value: "Most"'),
        (
            {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1801}]}}},
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
    ],
)  # fmt: skip
async def test_autoscalers_say_what_they_want(store, change, words):
    scaler = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3}
    wrong = {"metadata": {"name": "h"}, "spec": {**scaler, **change}}
    assert words in (await refused(store, "horizontalpodautoscalers.autoscaling", wrong)).message

"""ValidatingAdmissionPolicies: what they see, what their bindings make of it, what is said."""

import pytest
from unit.kubelab.apiserver.wire import CONFIG_MAPS, MERGE, body

from kubelab.apiserver.admission.policies import BINDINGS, POLICIES

MAPS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}


@pytest.fixture
def policy(server):
    async def make(*validations, binding=None, rules=(MAPS,), **spec):
        spec = {"matchConstraints": {"resourceRules": list(rules)}, "validations": list(validations), **spec}
        made = await server.store.create(POLICIES, {"metadata": {"name": "p"}, "spec": spec})
        bound = {"policyName": "p", "validationActions": ["Deny"], **(binding or {})}
        await server.store.create(BINDINGS, {"metadata": {"name": "b"}, "spec": bound})
        return made

    return make


async def write(http, name="a", *, status=201, **content):
    return await body(http, "POST", CONFIG_MAPS, status=status, json={"metadata": {"name": name}, **content})


async def test_a_policy_denies_in_its_words(http, policy):
    await policy(
        {"expression": "!has(object.data) || size(object.data) <= variables.most", "reason": "Forbidden"},
        {"expression": "object.metadata.name != 'bad'", "messageExpression": "'not ' + object.metadata.name"},
        variables=[{"name": "most", "expression": "1 + 1"}],
    )
    await write(http, data={"k": "v"})
    many = await write(http, "many", status=403, data={"a": "", "b": "", "c": ""})
    denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request"
    failed = "failed expression: !has(object.data) || size(object.data) <= variables.most"
    assert many["message"] == f'configmaps "many" is forbidden: {denied}: {failed}'
    assert many["reason"] == "Forbidden"
    bad = await write(http, "bad", status=422)
    assert bad["message"] == f'configmaps "bad" is forbidden: {denied}: not bad'
    assert bad["details"]["causes"] == [{"message": f"{denied}: not bad"}]


async def test_what_a_policy_sees(server, http, policy):
    await policy(
        {"expression": "request.userInfo.username == 'admin' && request.operation in ['CREATE', 'DELETE']"},
        {"expression": "namespaceObject.metadata.name == request.namespace"},
        {"expression": "request.operation == 'DELETE' ? object == null : oldObject == null"},
        {"expression": "authorizer.group('').resource('secrets').namespace('default').check('delete').allowed()"},
        {"expression": "authorizer.requestResource.check('create').allowed()"},
        {"expression": "!authorizer.serviceAccount('default', 'default').path('/metrics').check('get').allowed()"},
    )
    await write(http)
    await body(http, "DELETE", f"{CONFIG_MAPS}/a")


async def test_bindings_narrow_warn_and_bring_parameters(server, http, policy):
    store = server.store
    for name, most in (("strict", "1"), ("loose", "5")):
        obj = {"metadata": {"name": name, "labels": {"limits": "yes"}}, "data": {"most": most}}
        await store.create("configmaps", obj, namespace="kube-system")
    reference = {"name": "strict", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}
    await policy(
        {"expression": "size(object.data) <= int(params.data.most)", "message": "too many"},
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={
            "validationActions": ["Warn"],
            "paramRef": reference,
            "matchResources": {"objectSelector": {"matchLabels": {"judge": "me"}}},
        },
    )
    await write(http, data={"a": "", "b": ""})
    judged = {"metadata": {"name": "j", "labels": {"judge": "me"}}, "data": {"a": "", "b": ""}}
    async with http.post(CONFIG_MAPS, json=judged) as response:
        assert response.status == 201
        said = response.headers["Warning"]
    assert "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': too many" in said

    gone = {"policyName": "p", "validationActions": ["Deny"], "paramRef": {**reference, "name": "gone"}}
    await store.patch(BINDINGS, "b", {"spec": {**gone, "matchResources": None}})
    refused = await write(http, "k", status=422, data={})
    assert "no params found for policy binding with `Deny` parameterNotFoundAction" in refused["message"]
    await store.patch(BINDINGS, "b", {"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}})
    await write(http, "k", data={"a": ""})
    by_label = {"selector": {"matchLabels": {"limits": "yes"}}, "name": None}
    await store.patch(BINDINGS, "b", {"spec": {"paramRef": by_label}})
    assert "too many" in (await write(http, "l", status=422, data={"a": "", "b": ""}))["message"]


@pytest.mark.parametrize(("failure", "status"), [("Fail", 422), ("Ignore", 201)])
async def test_an_expression_without_a_value_fails_the_write_or_not(http, policy, failure, status):
    await policy({"expression": "object.data.nope == 'x'"}, failurePolicy=failure)
    answer = await write(http, status=status, data={})
    if failure == "Fail":
        assert "expression 'object.data.nope == 'x'' resulted in error: no such key: nope" in answer["message"]


async def test_match_conditions_and_malformed_policies(server, http, policy):
    condition = {"name": "only-maps-of-x", "expression": "object.metadata.name.startsWith('x')"}
    await policy({"expression": "false"}, matchConditions=[condition])
    await write(http)
    await write(http, "x1", status=422)
    spec = {"matchConstraints": {"resourceRules": [MAPS]}, "validations": [{"expression": "object.x =="}]}
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    refused = await body(http, "POST", path, status=422, json={"metadata": {"name": "q"}, "spec": spec})
    assert refused["details"]["causes"][0]["field"] == "spec.validations[0].expression"
    await server.store.delete(BINDINGS, "b")
    await write(http, "x1")


async def test_a_scale_is_judged_as_a_scale(server, http, policy, pod):
    scales = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["deployments/scale"],
    }
    await policy({"expression": "object.kind == 'Scale' && object.spec.replicas < 3"}, rules=[scales])
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    await server.store.create("deployments.apps", {"metadata": {"name": "d"}, "spec": spec}, namespace="default")
    path = "/apis/apps/v1/namespaces/default/deployments/d"
    await body(http, "PATCH", f"{path}/scale", json={"spec": {"replicas": 2}}, headers=MERGE)
    await body(http, "PATCH", f"{path}/scale", status=422, json={"spec": {"replicas": 3}}, headers=MERGE)
    await body(http, "PATCH", path, json={"spec": {"replicas": 4}}, headers=MERGE)
    whole = {**scales, "resources": ["deployments"]}
    constraints = {"resourceRules": [whole]}
    await server.store.patch(POLICIES, "p", {"spec": {"matchConstraints": constraints}})
    await body(http, "PATCH", f"{path}/scale", json={"spec": {"replicas": 5}}, headers=MERGE)
    await body(http, "PATCH", path, status=422, json={"spec": {"replicas": 6}}, headers=MERGE)

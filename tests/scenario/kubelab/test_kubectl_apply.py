"""The real kubectl and the fields of objects: apply on both sides, conflicts, diff, managers, validation, dry runs."""

import json
import re
from typing import Any

import pytest
import yaml
from scenario.kubelab.kubectl import APP, KUBECTL, Kubectl, KubectlError, get_json

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: uv sync --extra lab")
WEB = APP.split("---")[0]
SCALED = WEB.replace("replicas: 2", "replicas: 5")
WITHOUT_B = WEB.replace(', {name: B, value: "2"}', "")
FREE = WEB.replace("  replicas: 2\n", "")


async def managers(kubectl: Kubectl, *what: str) -> dict[str, Any]:
    """Manager and operation -> entry."""
    found = json.loads(await kubectl("get", *what, "-o", "json", "--show-managed-fields"))
    return {f"{e['manager']} {e['operation']}": e for e in found["metadata"]["managedFields"]}


async def test_managers_conflict_give_way_and_share(kubectl: Kubectl) -> None:
    ours = ("apply", "--server-side", "--field-manager=ours", "-f", "-")
    assert "deployment.apps/web serverside-applied" in await kubectl(*ours, stdin=WEB)
    await kubectl("scale", "deploy", "web", "--replicas=3")
    scaled = (await managers(kubectl, "deploy", "web"))["kubectl Update"]
    assert (scaled["subresource"], scaled["fieldsV1"]) == ("scale", {"f:spec": {"f:replicas": {}}})
    conflict = r'conflict with "kubectl" with subresource "scale" using apps/v1 at .*Z: \.spec\.replicas'
    with pytest.raises(KubectlError, match=conflict):
        await kubectl(*ours, stdin=WEB)
    await kubectl(*ours, stdin=FREE)
    assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 3, "given up to the other, not removed"
    await kubectl(*ours, "--force-conflicts", stdin=SCALED)
    assert "kubectl Update" not in await managers(kubectl, "deploy", "web")
    theirs = ("apply", "--server-side", "--field-manager=theirs", "-f", "-")
    await kubectl(*theirs, stdin=SCALED)
    await kubectl(*ours, stdin=FREE)
    assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 5, "shared: the other still wants it"
    assert "managedFields" not in await kubectl("get", "deploy", "web", "-o", "yaml")


async def test_what_is_left_out_goes_on_either_side(kubectl: Kubectl) -> None:
    for side in ((), ("--server-side",)):
        await kubectl("apply", *side, "-f", "-", stdin=WEB)
        await kubectl("apply", *side, "-f", "-", stdin=WITHOUT_B)
        containers = (await get_json(kubectl, "deploy", "web"))["spec"]["template"]["spec"]["containers"]
        assert [c.get("env") for c in containers] == [[{"name": "A", "value": "1"}], None]
        await kubectl("delete", "deploy", "web")


async def test_from_apply_on_the_client_to_apply_on_the_server_and_back(kubectl: Kubectl) -> None:
    """kubectl rewrites the managers of what it applied before, so that fields it leaves out still go."""
    await kubectl("apply", "-f", "-", stdin=WEB)
    assert "kubectl-client-side-apply Update" in await managers(kubectl, "deploy", "web")
    await kubectl("apply", "--server-side", "-f", "-", stdin=WITHOUT_B)
    assert set(await managers(kubectl, "deploy", "web")) == {"kubectl Apply", "kubectl-last-applied Apply"}
    found = await get_json(kubectl, "deploy", "web")
    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    last = json.loads(found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert len(last["spec"]["template"]["spec"]["containers"][0]["env"]) == 1
    assert "configured" in await kubectl("apply", "-f", "-", stdin=SCALED)
    assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 5


async def test_diff_shows_what_apply_would_do_and_does_nothing(kubectl: Kubectl) -> None:
    for side in ((), ("--server-side",)):
        with pytest.raises(KubectlError, match=r": 1: (?s:.*)\+.*nginx"):
            await kubectl("diff", *side, "-f", "-", stdin=WEB)
        await kubectl("apply", *side, "-f", "-", stdin=WEB)
        assert await kubectl("diff", *side, "-f", "-", stdin=WEB) == ""
        with pytest.raises(KubectlError, match=r": 1: (?s:.*)-  replicas: 2(?s:.*)\+  replicas: 5"):
            await kubectl("diff", *side, "-f", "-", stdin=SCALED)
        assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 2
        await kubectl("delete", "deploy", "web")


async def test_dry_runs_answer_and_keep_nothing(kubectl: Kubectl) -> None:
    assert "created (server dry run)" in await kubectl("apply", "--dry-run=server", "-f", "-", stdin=WEB)
    with pytest.raises(KubectlError, match="NotFound"):
        await kubectl("get", "deploy", "web")
    await kubectl("create", "-f", "-", stdin=WEB)
    before = await get_json(kubectl, "deploy", "web")
    for command in (
        ("patch", "deploy", "web", "-p", '{"spec":{"replicas":9}}'),
        ("label", "deploy", "web", "a=b"),
        ("scale", "deploy", "web", "--replicas=7"),
        ("delete", "deploy", "web"),
    ):
        await kubectl(*command, "--dry-run=server")
    assert await get_json(kubectl, "deploy", "web") == before


async def test_fields_that_are_unknown_twice_or_of_a_wrong_type(kubectl: Kubectl) -> None:
    unknown = WEB.replace("replicas: 2", "replica: 2")
    told = r'strict decoding error: unknown field "spec\.replica"'
    with pytest.raises(KubectlError, match=rf'Deployment in version "v1" cannot be handled as a Deployment: {told}'):
        await kubectl("create", "-f", "-", stdin=unknown)
    with pytest.raises(KubectlError, match=told):
        await kubectl("apply", "--server-side", "-f", "-", stdin=unknown)
    await kubectl("create", "--validate=ignore", "-f", "-", stdin=unknown)
    wrong = WEB.replace("replicas: 2", 'replicas: "two"')
    go = r"json: cannot unmarshal string into Go struct field DeploymentSpec\.spec\.replicas of type int32"
    with pytest.raises(KubectlError, match=rf"\(BadRequest\): (?s:.*){go}"):
        await kubectl("replace", "-f", "-", stdin=wrong)


async def test_what_may_not_change(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=APP)
    other = WEB.replace("{app: web}", "{app: new}")
    with pytest.raises(
        KubectlError, match=r'The Deployment "web" is invalid: spec.selector: (?s:.*)field is immutable'
    ):
        await kubectl("apply", "-f", "-", stdin=other)
    address = json.dumps({"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}})
    with pytest.raises(KubectlError, match=r"may not change once set"):
        await kubectl("patch", "svc", "web", "--type=merge", "-p", address)
    await kubectl("create", "cm", "c", "--from-literal=a=b")
    await kubectl("patch", "cm", "c", "-p", '{"immutable":true}')
    with pytest.raises(KubectlError, match="data: Forbidden: field is immutable when `immutable` is set"):
        await kubectl("patch", "cm", "c", "-p", '{"data":{"a":"c"}}')
    with pytest.raises(KubectlError, match=r'configmaps "c" already exists'):
        await kubectl("create", "cm", "c")


async def test_lists_in_pages_and_metadata(kubectl: Kubectl) -> None:
    for name in ("a", "b", "c"):
        await kubectl("create", "cm", name)
    assert (await kubectl("get", "cm", "--chunk-size=1", "-o", "name")).split() == [f"configmap/{n}" for n in "abc"]
    first = json.loads(await kubectl("get", "--raw", "/api/v1/namespaces/default/configmaps?limit=1"))
    assert first["metadata"]["remainingItemCount"] == 2
    with pytest.raises(KubectlError, match="resourceVersionMatch is forbidden unless resourceVersion is provided"):
        await kubectl("get", "--raw", "/api/v1/configmaps?resourceVersionMatch=Exact")
    await kubectl("delete", "cm", "--all")
    assert await kubectl("get", "cm", "-o", "name") == ""


KEPT = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 4}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: hooks}
webhooks:
- name: a.b.c
  sideEffects: None
  admissionReviewVersions: [v1]
  clientConfig: {service: {namespace: hooks, name: svc}}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: fast}
handler: runc
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: policy}
spec: {validations: [{expression: "true"}]}
"""


async def test_kinds_that_charts_bring(kubectl: Kubectl) -> None:
    await kubectl("apply", "--server-side", "-f", "-", stdin=KEPT)
    assert "unchanged" not in await kubectl("apply", "--server-side", "-f", "-", stdin=KEPT)
    assert (await kubectl("get", "hpa")).splitlines()[1].split()[:4] == [
        "web",
        "Deployment/web",
        "cpu:",
        "<unknown>/80%",
    ]
    assert re.search(r"hooks +1 ", await kubectl("get", "validatingwebhookconfigurations"))
    assert re.search(r"policy +1 +<unset>", await kubectl("get", "validatingadmissionpolicies"))
    assert "GROUP:      autoscaling" in await kubectl("explain", "hpa.spec")
    await kubectl("create", "-f", "-", stdin=WEB)
    await kubectl("autoscale", "deploy", "web", "--max=3", "--cpu=50%", "--name=other")
    metrics = (await get_json(kubectl, "hpa", "other"))["spec"]["metrics"]
    assert metrics[0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}
    documents = list(yaml.safe_load_all(KEPT))
    assert len((await kubectl("delete", "-f", "-", stdin=KEPT)).splitlines()) == len(documents)


async def test_events_have_two_names(kubectl: Kubectl) -> None:
    event = {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "R", "note": "hi"}
    event |= {"regarding": {"kind": "Pod", "namespace": "default", "name": "p"}, "type": "Normal", "action": "a"}
    await kubectl("create", "-f", "-", stdin=json.dumps({**event, "eventTime": "2026-01-01T00:00:00.000000Z"}))
    assert "pod/p" in await kubectl("get", "events")
    assert "hi" in await kubectl("events")
    assert (await get_json(kubectl, "events.events.k8s.io", "e"))["note"] == "hi"
    assert (await get_json(kubectl, "events.v1.", "e"))["message"] == "hi"

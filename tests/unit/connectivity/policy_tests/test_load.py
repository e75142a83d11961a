"""A directory becomes steps; what is no manifest is named; pods keep what policies can see."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.load import Manifest, load
from cilium.connectivity.policy_tests.reduce import OWNER, reduced, unrolled, wanted
from cilium.connectivity.policy_tests.run import Options, check

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\n"
EXPECTED = "- {from: default/a, to: default/b, expect: allowed}\n"


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_directory_is_a_step_and_its_subdirectories_are_further_ones(tmp_path: Path) -> None:
    base, tests = tmp_path / "base", tmp_path / "tests"
    write(base, app_yaml=POD % "base" + "---\n" + POD % "second", notes_txt="nothing")
    write(tests, b_yaml=POD % "b", a_json='{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}')
    write(tests, values_yaml="x: 1", **{"02__p_yml": POD % "late", "01__expectations_yaml": EXPECTED})
    test = load(tests, [base])
    assert [(step.name, [m.name for m in step.manifests], len(step.expectations)) for step in test.steps] == [
        ("tests", ["base", "second", "a", "b"], 0),
        ("01", [], 1),
        ("02", ["late"], 0),
    ]
    assert [m.where for m in test.steps[0].manifests[:2]] == [f"{base}/app.yaml:1", f"{base}/app.yaml:5"]
    assert test.values == tests / "values.yaml"


def test_lists_are_taken_apart(tmp_path: Path) -> None:
    write(tmp_path, l_yaml="apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n")
    assert [m.name for m in load(tmp_path).steps[0].manifests] == ["a"]


def test_all_problems_of_all_files_are_named(tmp_path: Path) -> None:
    write(
        tmp_path, a_yaml="kind: Pod", b_yaml="a: {", c_yaml="- 1", d_yaml=POD % "3", expectations_yaml="x",
        k__kustomization_yaml="", h__Chart_yaml="",
    )  # fmt: skip
    with pytest.raises(WrongTestError) as caught:
        load(tmp_path, [tmp_path / "absent"])
    said = str(caught.value)
    for problem in (
        "absent: no such file", "a.yaml:1: apiVersion is missing", "b.yaml: no YAML",
        "c.yaml:1: no object of Kubernetes",
        "d.yaml:1: Pod: metadata.name is missing", "expectations.yaml: expectations are a list",
        "kubectl kustomize", "helm template",
    ):  # fmt: skip
        assert problem in said


def test_what_a_directory_must_have(tmp_path: Path) -> None:
    with pytest.raises(WrongTestError, match="no manifests"):
        check(load(tmp_path), Options())
    write(tmp_path, a_yaml=POD % "a")
    with pytest.raises(WrongTestError, match="--record"):
        check(load(tmp_path), Options())
    check(load(tmp_path), Options(record=True))
    write(tmp_path, expectations_yaml=EXPECTED)
    check(load(tmp_path), Options())
    with pytest.raises(WrongTestError, match="move it away"):
        check(load(tmp_path), Options(record=True))
    with pytest.raises(WrongTestError, match="no such directory"):
        load(tmp_path / "none")


def manifest(kind: str, spec: object, version: str = "apps/v1") -> Manifest:
    content = {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, "spec": spec}
    return Manifest(Path("f.yaml"), 1, content)


CONTAINER = {"name": "c", "image": "i", "command": ["x"], "ports": [{"containerPort": 1}], "livenessProbe": {}}
POD_SPEC = {"serviceAccountName": "robot", "nodeSelector": {"gpu": "1"}, "initContainers": [CONTAINER],
            "volumes": [{}], "containers": [CONTAINER]}  # fmt: skip
STAND_IN = {
    "serviceAccountName": "robot", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "c", "image": "stand-in", "ports": [{"containerPort": 1}]}],
}  # fmt: skip


def test_a_pod_keeps_what_policies_can_see() -> None:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": POD_SPEC}
    deployment = manifest("Deployment", {"replicas": 3, "template": template})
    found = reduced(deployment, "stand-in").content["spec"]
    assert found == {"replicas": 3, "template": {"metadata": {"labels": {"app": "x"}}, "spec": STAND_IN}}
    assert "command" in deployment.content["spec"]["template"]["spec"]["containers"][0], "the original stays"
    assert reduced(manifest("Pod", POD_SPEC), "stand-in").content["spec"] == STAND_IN
    for broken in (None, [], {"template": 3}, {"template": {"spec": {"containers": 3}}}):
        assert reduced(manifest("Deployment", broken), "stand-in").content["spec"] == broken, (
            "the API server says what is wrong"
        )


def test_workloads_without_a_controller_are_their_pods() -> None:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [], "restartPolicy": "Never"}}
    pods = unrolled(manifest("StatefulSet", {"replicas": 2, "template": template}))
    assert [(pod.kind, pod.name, pod.namespace) for pod in pods] == [("Pod", "x-0", "n"), ("Pod", "x-1", "n")]
    assert pods[1].content["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "x-1"
    assert pods[1].content["metadata"]["annotations"] == {OWNER: "StatefulSet/x"}
    (job,) = unrolled(manifest("CronJob", {"jobTemplate": {"spec": {"template": template}}}))
    assert job.content["metadata"]["labels"]["job-name"] == "x"
    assert job.content["spec"]["restartPolicy"] == "Always", "a client that waits to be told what to ask"
    assert unrolled(broken := manifest("StatefulSet", None)) == [broken]


def test_policies_of_unknown_kinds_are_never_passed_over() -> None:
    assert wanted(manifest("AdminNetworkPolicy", {}, "policy.networking.k8s.io/v1alpha1"))
    assert wanted(manifest("CiliumEnvoyConfig", {}, "cilium.io/v2"))
    assert not wanted(manifest("ConfigMap", {}, "v1"))
    assert not wanted(manifest("ServiceMonitor", {}, "monitoring.coreos.com/v1"))

"""lightkube: apply, watch, wait, conflicts."""

from __future__ import annotations

import pytest
from scenario.kubelab.small_lab import Namespace

pytest.importorskip("lightkube")

from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod

pytestmark = pytest.mark.scenario


def deployment(replicas: int) -> Deployment:
    container = Container(name="c", image="test", command=["sleep", "10000"])
    template = PodTemplateSpec(ObjectMeta(labels={"app": "web"}), PodSpec([container], terminationGracePeriodSeconds=1))
    spec = DeploymentSpec(LabelSelector(matchLabels={"app": "web"}), template, replicas=replicas)
    return Deployment(metadata=ObjectMeta(name="web"), spec=spec)


def test_apply_wait_watch_and_delete(kubeconfig: str, space: Namespace) -> None:
    api = Client(config=KubeConfig.from_file(kubeconfig), namespace=space.name, field_manager="light")
    api.apply(deployment(1))
    ready = api.wait(Deployment, "web", for_conditions=["Available"])
    assert ready.status.readyReplicas == 1
    with pytest.raises(ApiError) as refused:
        api.apply(deployment(2), field_manager="other")
    assert refused.value.status.code == 409
    api.apply(deployment(2), field_manager="other", force=True)
    names = set()
    for kind, pod in api.watch(Pod, labels={"app": "web"}):
        if kind != "DELETED" and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or []):
            names.add(pod.metadata.name)
        if len(names) == 2:
            break
    assert {p.metadata.name for p in api.list(Pod, labels={"app": "web"})} == names
    api.create(ConfigMap(metadata=ObjectMeta(name="c"), data={"a": "1"}))
    api.patch(ConfigMap, "c", {"data": {"b": "2"}})
    assert api.get(ConfigMap, "c").data == {"a": "1", "b": "2"}
    api.delete(Deployment, "web")
    space.kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=30s")

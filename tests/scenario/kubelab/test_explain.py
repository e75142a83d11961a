"""`kubectl explain` reads like a manual: every kind that is served, their parts, and what is asked for wrongly."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from scenario.kubelab.kubectl import CRD, Kubectl, KubectlError

from cilium.api import crds

AT_ONCE = 4


async def test_every_kind_that_is_served_is_explained(kubectl: Kubectl) -> None:
    """Cilium's, too: each has a description and a text for every field."""
    await kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": crds.load()}))
    await kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=20s")
    rows = [line.split() for line in (await kubectl("api-resources", "--no-headers")).splitlines()]
    free = asyncio.Semaphore(AT_ONCE)

    async def explained(row: list[str]) -> tuple[str, str]:
        async with free:
            return row[0], await kubectl("explain", row[0], f"--api-version={row[-3]}")

    answers = await asyncio.gather(*map(explained, rows))
    assert len(answers) > 60
    assert {"pods", "tokenreviews", "ciliumnetworkpolicies"} <= {name for name, _ in answers}
    bad = [
        name
        for name, text in answers
        if not re.search(r"^DESCRIPTION:\n {4}[A-Z]", text, re.M) or re.search(r"<empty>|<no description>", text)
    ]
    assert not bad


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        (
            "pod.spec.containers.livenessProbe",
            ["FIELD: livenessProbe <Probe>", "  periodSeconds\t<integer>", "    Seconds from one check to the next."],
        ),
        ("pod.spec.restartPolicy", ["ENUM:", "    OnFailure", '     - `"Never"` it stays as it is']),
        ("deployment --recursive", ["  spec\t<DeploymentSpec> -required-", "      enum: Recreate, RollingUpdate"]),
        ("deploy.spec.strategy.rollingUpdate.maxSurge", ["FIELD: maxSurge <IntOrString>"]),
        ("pod.spec.containers.resources.limits", ["FIELD: limits <map[string]Quantity>"]),
        ("hpa.spec --api-version=autoscaling/v2", ["GROUP:      autoscaling", "  maxReplicas\t<integer> -required-"]),
        (
            "job.spec --output=plaintext-openapiv2",
            ["RESOURCE: spec <Object>", "   backoffLimit\t<integer>", "   template\t<Object> -required-"],
        ),
        ("crd.spec.versions.schema.openAPIV3Schema", ["  x-kubernetes-validations\t<[]ValidationRule>"]),
    ],
)
async def test_parts_of_a_kind(kubectl: Kubectl, asked: str, lines: list[str]) -> None:
    answer = await kubectl("explain", *asked.split())
    for line in lines:
        assert line in answer


async def test_what_is_not_there_is_named(kubectl: Kubectl) -> None:
    for asked, message in (
        ("pod.spec.nothing", 'field "nothing" does not exist'),
        ("gadget", 'the server doesn\'t have a resource type "gadget"'),
        ("hpa --api-version=autoscaling/v9", "couldn't find resource for \"autoscaling/v9"),
    ):
        with pytest.raises(KubectlError, match=re.escape(message)):
            await kubectl("explain", *asked.split())


async def test_a_new_description_is_seen_though_kubectl_keeps_documents(kubectl: Kubectl) -> None:
    """Documents lie under an address with their hash; a new one has another."""
    await kubectl("apply", "-f", "-", stdin=CRD)
    await kubectl("wait", "--for=condition=Established", "crd/widgets.demo.io", "--timeout=10s")
    assert "How large it is." in await kubectl("explain", "widget.spec.size")
    await kubectl("apply", "-f", "-", stdin=CRD.replace("How large it is.", "How heavy it is."))
    assert "How heavy it is." in await kubectl("explain", "widget.spec.size")
    assert "How heavy it is." in await kubectl("explain", "widget.spec.size", "--output=plaintext-openapiv2")

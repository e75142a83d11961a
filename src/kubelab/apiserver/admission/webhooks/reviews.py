"""What a webhook is sent, and what its answer means.

Owns: AdmissionReview. Comes in: a write, in the version that the webhook asked for. Goes out: a request; of the answer
a `Verdict`, or ValueError for what is none. Source: Kubernetes API reference, AdmissionReview v1; KEP-1872.
"""

import base64
import binascii
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kubelab.apiserver.admission.base import CONNECT, CREATE, DELETE, UPDATE, Write
from kubelab.apiserver.admission.webhooks.rules import asked_version
from kubelab.apiserver.errors import ApiError, of_status
from kubelab.apiserver.users import CONTROLLERS, REQUESTER

Object = dict[str, Any]
GROUP = "admission.k8s.io"
_OPTIONS = {CREATE: "CreateOptions", UPDATE: "UpdateOptions", DELETE: "DeleteOptions"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` None: it may pass."""

    refusal: ApiError | None
    patch: list[Object]
    warnings: tuple[str, ...]


def request_of(write: Write, version: str, obj: Object | None, old: Object | None) -> Object:
    """The `request` of a review; policies see it as well."""
    requested = _kinds(write, asked_version(write))
    user = REQUESTER.get() or CONTROLLERS
    namespace = write.target if write.resource.key == "namespaces" else write.namespace
    request: Object = {
        "uid": str(uuid.uuid4()),
        **_kinds(write, version),
        "requestKind": requested["kind"],
        "requestResource": requested["resource"],
        **({"requestSubResource": write.subresource} if write.subresource else {}),
        **({"name": write.target} if write.target else {}),
        **({"namespace": namespace} if namespace else {}),
        "operation": write.verb,
        "userInfo": {
            "username": user.name,
            **({"uid": user.uid} if user.uid else {}),
            "groups": list(user.groups),
            **({"extra": {name: list(values) for name, values in user.extra}} if user.extra else {}),
        },
        "object": obj,
        "oldObject": old,
        "dryRun": write.dry_run,
        "options": None,
    }
    if write.verb != CONNECT:
        request["options"] = {
            "kind": _OPTIONS[write.verb],
            "apiVersion": "meta.k8s.io/v1",
            **({"fieldManager": write.manager} if write.manager else {}),
            **({"dryRun": ["All"]} if write.dry_run else {}),
        }
    return request


def _kinds(write: Write, version: str) -> Object:
    resource, sub = write.resource, write.resource.subresource(write.subresource)
    kind = {"group": resource.group, "version": version, "kind": sub.kind if sub else resource.kind}
    if sub is not None and sub.version:
        kind |= {"group": sub.group, "version": sub.version}
    return {
        "kind": kind,
        "resource": {"group": resource.group, "version": version, "resource": resource.plural},
        **({"subResource": write.subresource} if write.subresource else {}),
    }


def review_of(request: Object, versions: Sequence[str]) -> Object:
    """Raises ValueError for a webhook that speaks no version of ours."""
    version = next((v for v in versions if v in ("v1", "v1beta1")), None)
    if version is None:
        raise ValueError("webhook does not accept known AdmissionReview versions (v1, v1beta1)")
    return {"kind": "AdmissionReview", "apiVersion": f"{GROUP}/{version}", "request": request}


def verdict(webhook: str, review: Object, answer: Mapping[str, Any], *, mutates: bool) -> Verdict:
    """Raises ValueError saying what is wrong with the answer."""
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ValueError("webhook response was absent")
    if review["apiVersion"] == f"{GROUP}/v1":
        wanted, got = review["request"]["uid"], response.get("uid", "")
        if got != wanted:
            raise ValueError(f'expected response.uid="{wanted}", got "{got}"')
        found = f"{answer.get('apiVersion', '')}, Kind={answer.get('kind', '')}"
        if found != f"{GROUP}/v1, Kind=AdmissionReview":
            raise ValueError(f"expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {found}")
    warnings = tuple(str(text) for text in response.get("warnings") or ())
    if response.get("allowed") is not True:
        return Verdict(_refusal(webhook, response.get("status")), [], warnings)
    return Verdict(None, _patch(response, mutates=mutates), warnings)


def _patch(response: Object, *, mutates: bool) -> list[Object]:
    patch, kind = response.get("patch"), response.get("patchType")
    if not mutates:
        if patch:
            raise ValueError("validating webhook may not return response.patch")
        if kind is not None:
            raise ValueError("validating webhook may not return response.patchType")
        return []
    if patch and kind is None:
        raise ValueError("webhook returned response.patch but not response.patchType")
    if not patch and kind is not None:
        raise ValueError("webhook returned response.patchType but not response.patch")
    if not patch:
        return []
    if kind != "JSONPatch":
        raise ValueError(f'unsupported patch type "{kind}"')
    try:
        operations = msgspec.json.decode(base64.b64decode(patch), type=list[dict[str, Any]])
    except (binascii.Error, msgspec.DecodeError) as error:
        raise ValueError(f"received undecodable patch in webhook response: {error}") from error
    return operations


def _refusal(webhook: str, status: Any) -> ApiError:
    """What the webhook says, as an error of this server: at least 400, and naming the webhook."""
    said: Object = dict(status) if isinstance(status, dict) else {}
    code = said.get("code")
    said["code"] = code if isinstance(code, int) and code >= 400 else 400
    denied = f'admission webhook "{webhook}" denied the request'
    why = said.get("message") or said.get("reason")
    said["message"] = f"{denied}: {why}" if why else f"{denied} without explanation"
    return of_status(said)

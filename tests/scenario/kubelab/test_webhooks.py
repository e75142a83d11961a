"""Webhooks as charts bring them: a pod behind a Service, asked over TLS through the pod network, seen by kubectl."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenario.kubelab.small_lab import Namespace, SmallLab

from kubelab.apiserver.tls import Authority

pytestmark = pytest.mark.scenario
NAMESPACE = "webhooks"
SERVICE = f"hook.{NAMESPACE}.svc"
GROUP = "hooks.demo.io"

Object = dict[str, Any]

PROGRAM = """
import base64, http.server, json, ssl

def label(obj):
    labels = {**(obj["metadata"].get("labels") or {}), "injected": "yes"}
    patch = json.dumps([{"op": "add", "path": "/metadata/labels", "value": labels}]).encode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}

def judge(obj):
    if (obj.get("data") or {}).get("bad"):
        return {"allowed": False, "status": {"code": 403, "reason": "Forbidden", "message": "no bad maps here"}}
    return {"allowed": True, "warnings": ["maps are going out of fashion"]}

def convert(request):
    for obj in request["objects"]:
        obj["apiVersion"] = request["desiredAPIVersion"]
        spec = obj.get("spec") or {}
        if "address" in spec:
            spec["host"], _, spec["port"] = spec.pop("address").partition(":")
        elif "host" in spec:
            spec["address"] = spec.pop("host") + ":" + spec.pop("port")
    return {"convertedObjects": request["objects"], "result": {"status": "Success"}}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["content-length"])))
        request = review.pop("request")
        path = self.path.partition("?")[0]
        answer = convert(request) if path == "/convert" else {"/label": label, "/judge": judge}[path](request["object"])
        body = json.dumps({**review, "response": {"uid": request["uid"], **answer}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, bytes]:
    """Authority, certificate and key of the Service."""
    authority = Authority(Path(tmp_path_factory.mktemp("pki")))
    pair = authority.server([SERVICE])
    return authority.certificate, pair.certificate, pair.key


@pytest.fixture(scope="module")
def space(small_lab: SmallLab, bundle: tuple[bytes, bytes, bytes]) -> Iterator[Namespace]:
    with small_lab.namespace(NAMESPACE) as made:
        _, certificate, key = (base64.b64encode(part).decode() for part in bundle)
        secret = {"kind": "Secret", "type": "kubernetes.io/tls", "data": {"tls.crt": certificate, "tls.key": key}}
        service = {
            "kind": "Service",
            "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]},
        }
        made.apply(*({"apiVersion": "v1", "metadata": {"name": "hook"}, **obj} for obj in (secret, service)))
        container = {
            "name": "c",
            "image": "test",
            "command": [sys.executable, "-c", PROGRAM],
            "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
            "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        }
        spec = {"containers": [container], "volumes": [{"name": "tls", "secret": {"secretName": "hook"}}]}
        metadata = {"name": "hook", "labels": {"app": "hook"}}
        made.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        made.kubectl("wait", "--for=condition=Ready", "pod/hook", "--timeout=20s")
        try:
            yield made
        finally:
            for kind in ("mutatingwebhookconfiguration", "validatingwebhookconfiguration"):
                made.kubectl("delete", kind, NAMESPACE, "--ignore-not-found", check=False)
            made.kubectl("delete", "crd", f"hosts.{GROUP}", "--ignore-not-found", "--wait=false", check=False)


def client(bundle: tuple[bytes, bytes, bytes], path: str) -> Object:
    service = {"name": "hook", "namespace": NAMESPACE, "path": path}
    return {"service": service, "caBundle": base64.b64encode(bundle[0]).decode()}


def configuration(kind: str, client_config: Object, resource: str, **more: Any) -> Object:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE"]}
    hook = {
        "name": f"{resource}.{GROUP}",
        "clientConfig": client_config,
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        **more,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": f"{kind}WebhookConfiguration",
        "metadata": {"name": NAMESPACE},
        "webhooks": [hook],
    }


def test_pods_of_a_deployment_are_changed_and_maps_are_judged(
    space: Namespace, bundle: tuple[bytes, bytes, bytes]
) -> None:
    space.apply(
        configuration("Mutating", client(bundle, "/label"), "pods"),
        configuration("Validating", client(bundle, "/judge"), "configmaps"),
    )
    space.kubectl("create", "deployment", "web", "--image=nginx")
    space.kubectl("rollout", "status", "deployment/web", "--timeout=20s")
    assert space.kubectl("get", "pods", "-l", "app=web,injected=yes", "-o", "name").startswith("pod/web-")

    assert "Warning: maps are going out of fashion" in space.kubectl("create", "configmap", "good", check=False)
    denied = space.kubectl("create", "configmap", "bad", "--from-literal=bad=yes", check=False)
    # The warning is of the map before: what is refused was not let pass with one.
    words = f'admission webhook "configmaps.{GROUP}" denied the request: no bad maps here'
    assert denied.strip() == f"error: failed to create configmap: {words}"


def test_custom_objects_are_converted_by_a_pod(space: Namespace, bundle: tuple[bytes, bytes, bytes]) -> None:
    def version(name: str, *fields: str) -> Object:
        spec = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
        schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
        return {"name": name, "served": True, "storage": name == "v1", "schema": schema}

    webhook = {"clientConfig": client(bundle, "/convert"), "conversionReviewVersions": ["v1"]}
    names = {"plural": "hosts", "kind": "Host", "singular": "host"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names}
    spec |= {"versions": [version("v1", "host", "port"), version("v1beta1", "address")]}
    spec |= {"conversion": {"strategy": "Webhook", "webhook": webhook}}
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
    space.apply({**definition, "metadata": {"name": f"hosts.{GROUP}"}})
    space.kubectl("wait", "--for=condition=Established", f"crd/hosts.{GROUP}", "--timeout=10s")
    space.apply(
        {"apiVersion": f"{GROUP}/v1beta1", "kind": "Host", "metadata": {"name": "h"}, "spec": {"address": "a:1"}}
    )
    assert space.get(f"hosts.v1.{GROUP}", "h")["spec"] == {"host": "a", "port": "1"}
    assert space.get(f"hosts.v1beta1.{GROUP}", "h")["spec"] == {"address": "a:1"}


def test_a_webhook_without_pods_is_named_with_its_service(space: Namespace) -> None:
    """The last one: the pod goes."""
    space.kubectl("delete", "pod", "hook", "--grace-period=0", "--force")
    gone = space.until(
        lambda: next(
            (o for o in [space.kubectl("create", "cm", "x", "--dry-run=server", check=False)] if "fail" in o), ""
        ),
        "the webhook fails",
    )
    where = f"https://{SERVICE}:443/judge?timeout=10s"
    why = f'failed calling webhook "configmaps.{GROUP}": failed to call webhook: Post "{where}"'
    assert f"Internal error occurred: {why}: " in gone
    nobody = 'no endpoints available for service "hook"'
    space.until(
        lambda: nobody in space.kubectl("create", "cm", "x", "--dry-run=server", check=False), "nobody is there"
    )

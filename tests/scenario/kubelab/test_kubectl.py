"""The real kubectl against the API server, over TLS on loopback: what a user types every day."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from aiohttp import WSMsgType, web
from scenario.kubelab.kubectl import APP, CRD, KUBECTL, Kubectl, KubectlError, get_json, runner, token_config

from kubelab.apiserver.kubelets import SOCKET_ANNOTATION
from kubelab.apiserver.server import ApiServer

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed: uv sync --extra lab")


async def test_apply_creates_changes_prunes_and_settles(kubectl: Kubectl) -> None:
    assert "deployment.apps/web created" in await kubectl("apply", "-f", "-", stdin=APP)
    smaller = APP.replace(', {name: B, value: "2"}', "").replace("      - {name: side, image: busybox}\n", "")
    assert "deployment.apps/web configured" in await kubectl("apply", "-f", "-", stdin=smaller)
    spec = (await get_json(kubectl, "deploy", "web"))["spec"]["template"]["spec"]
    assert [c["name"] for c in spec["containers"]] == ["web"]
    assert spec["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    settled = await kubectl("apply", "-f", "-", stdin=smaller)
    assert settled.splitlines() == ["deployment.apps/web unchanged", "service/web unchanged"]
    await kubectl("diff", "-f", "-", stdin=smaller)
    await kubectl("apply", "--server-side", "-f", "-", stdin=APP.replace("replicas: 2", "replicas: 4"))
    assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 4


async def test_get_in_every_form(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=APP)
    lines = (await kubectl("get", "deploy", "-o", "wide")).splitlines()
    assert lines[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    assert lines[1].split()[:4] == ["web", "0/2", "0", "0"]
    assert await kubectl("get", "deploy", "-o", "name") == "deployment.apps/web\n"
    assert yaml.safe_load(await kubectl("get", "deploy", "web", "-o", "yaml"))["kind"] == "Deployment"
    assert "service/web" in await kubectl("get", "all")
    assert "web" in await kubectl("get", "svc", "-A", "-l", "app!=x", "--field-selector", "metadata.name=web")
    assert "IP Families:              IPv4,IPv6" in await kubectl("describe", "svc", "web")
    assert "Replicas:               2 desired" in await kubectl("describe", "deploy", "web")
    with pytest.raises(KubectlError, match=r'\(NotFound\): deployments.apps "absent" not found'):
        await kubectl("get", "deploy", "absent")


async def test_imperative_commands_send_what_the_server_reads(kubectl: Kubectl, tmp_path: Path) -> None:
    """`kubectl create` and friends send protobuf."""
    await kubectl("create", "namespace", "team")
    await kubectl("create", "configmap", "c", "--from-literal=a=b", "-n", "team")
    await kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    await kubectl("create", "serviceaccount", "sa")
    await kubectl("create", "deployment", "web", "--image=nginx:1", "--port=80", "--replicas=3")
    await kubectl("expose", "deployment", "web", "--port=80")
    await kubectl("create", "clusterrole", "reader", "--verb=get,list", "--resource=pods")
    await kubectl("create", "job", "once", "--image=busybox", "--", "true")
    assert (await get_json(kubectl, "cm", "c", "-n", "team"))["data"] == {"a": "b"}
    assert (await get_json(kubectl, "secret", "s"))["data"] == {"a": "Yg=="}
    assert (await get_json(kubectl, "deploy", "web"))["spec"]["replicas"] == 3
    assert (await get_json(kubectl, "clusterrole", "reader"))["rules"][0]["verbs"] == ["get", "list"]
    token = await kubectl("create", "token", "sa")
    assert token.count(".") == 2
    with_token = token_config(tmp_path, token.strip())
    with pytest.raises(KubectlError, match='"system:serviceaccount:default:sa" cannot list resource "deployments"'):
        await kubectl("get", "deploy", "-o", "name", "--kubeconfig", with_token)
    await kubectl("create", "rolebinding", "sees", "--clusterrole=view", "--serviceaccount=default:sa")
    assert "deployment.apps/web" in await kubectl("get", "deploy", "-o", "name", "--kubeconfig", with_token)
    await kubectl("delete", "serviceaccount", "sa")
    with pytest.raises(KubectlError, match=r"must be logged in|Unauthorized"):
        await kubectl("get", "deploy", "--kubeconfig", with_token)


async def test_patches_labels_scale(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=APP)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}}}
    await kubectl("patch", "deploy", "web", "-p", json.dumps(image))
    await kubectl(
        "patch", "deploy", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels","value":{"x":"y"}}]'
    )
    await kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"metadata":{"annotations":{"a":null,"b":"c"}}}')
    await kubectl("label", "deploy", "web", "tier=front")
    await kubectl("annotate", "deploy", "web", "note=hello")
    await kubectl("scale", "deploy", "web", "--replicas=5")
    found = await get_json(kubectl, "deploy", "web")
    containers = found["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in containers] == ["nginx:2", "busybox"]
    assert found["metadata"]["labels"] == {"x": "y", "tier": "front"}
    assert found["metadata"]["annotations"]["note"] == "hello"
    assert found["spec"]["replicas"] == 5
    await kubectl("label", "deploy", "web", "tier-")
    assert (await get_json(kubectl, "deploy", "web"))["metadata"]["labels"] == {"x": "y"}


async def test_bad_input_is_refused_with_field_and_reason(kubectl: Kubectl, tmp_path: Path) -> None:
    with pytest.raises(KubectlError, match=r'unknown field "spec.replica"'):
        await kubectl("apply", "-f", "-", stdin=APP.replace("replicas: 2", "replica: 2"))
    with pytest.raises(KubectlError, match=r"is invalid: spec.template.spec.containers\[0\].ports\[0\].containerPort"):
        await kubectl("apply", "-f", "-", stdin=APP.replace("containerPort: 80", "containerPort: 0"))
    with pytest.raises(KubectlError, match='namespaces "nowhere" not found'):
        await kubectl("apply", "-n", "nowhere", "-f", "-", stdin=APP)
    await kubectl("apply", "-f", "-", stdin=APP)
    with pytest.raises(KubectlError, match="AlreadyExists"):
        await kubectl("create", "-f", "-", stdin=APP)
    with pytest.raises(KubectlError, match=r"must be logged in|Unauthorized"):
        await kubectl("get", "pods", "--kubeconfig", token_config(tmp_path, "a.b.c"))


async def test_a_crd_from_definition_to_deletion(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=CRD)
    await kubectl("wait", "--for=condition=Established", "crd/widgets.demo.io", "--timeout=10s")
    widget = "{apiVersion: demo.io/v1, kind: Widget, metadata: {name: w}, spec: {size: 3}}"
    await kubectl("apply", "-f", "-", stdin=widget)
    assert (await kubectl("get", "wd")).splitlines()[1].split()[:2] == ["w", "3"]
    assert "How large it is." in await kubectl("explain", "widget.spec.size")
    assert "widgets" in await kubectl("api-resources", "--api-group=demo.io")
    with pytest.raises(KubectlError, match=r"spec.size: Invalid value: 30"):
        await kubectl("apply", "-f", "-", stdin=widget.replace("size: 3", "size: 30"))
    with pytest.raises(KubectlError, match=r'unknown field "spec.extra"'):
        await kubectl("apply", "-f", "-", stdin=widget.replace("size: 3", "size: 3, extra: 1"))
    ready = '{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
    await kubectl("patch", "wd", "w", "--subresource=status", "--type=merge", "-p", ready)
    await kubectl("wait", "--for=condition=Ready", "wd/w", "--timeout=10s")
    await kubectl("wait", "--for=jsonpath={.spec.size}=3", "wd/w", "--timeout=10s")
    await kubectl("delete", "crd", "widgets.demo.io")
    with pytest.raises(KubectlError, match=r"could not find the requested resource|NotFound"):
        await kubectl("get", "--raw", "/apis/demo.io/v1/namespaces/default/widgets")


async def test_explain_and_discovery(kubectl: Kubectl) -> None:
    explained = await kubectl("explain", "pod.spec.containers.livenessProbe")
    assert "FIELD: livenessProbe <Probe>" in explained
    assert "initialDelaySeconds" in explained
    listed = await kubectl("api-resources", "-o", "name")
    assert {"pods", "deployments.apps", "endpointslices.discovery.k8s.io"} <= set(listed.split())
    assert await kubectl("get", "--raw", "/readyz") == "ok"
    assert "Server Version: v1." in await kubectl("version")


async def test_a_list_and_an_unknown_kind(kubectl: Kubectl) -> None:
    """kubectl asks for OpenAPI v2 in protobuf where v3 has no answer."""
    items = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}} for name in ("a", "b")]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert await kubectl("apply", "-f", "-", stdin=listed) == "configmap/a created\nconfigmap/b created\n"
    items[0]["dat"] = {}
    with pytest.raises(KubectlError, match='unknown field "dat"'):
        await kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    with pytest.raises(KubectlError, match=r'no matches for kind "Gadget" in version "demo.io/v1"'):
        await kubectl("apply", "-f", "-", stdin="{apiVersion: demo.io/v1, kind: Gadget, metadata: {name: g}}")


async def test_who_am_i_and_may_i(kubectl: Kubectl) -> None:
    assert "kubernetes-admin" in await kubectl("auth", "whoami")
    assert await kubectl("auth", "can-i", "create", "pods") == "yes\n"


async def test_delete_waits_for_finalizers(kubectl: Kubectl, server: ApiServer) -> None:
    held = "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [demo.io/hold]}}"
    await kubectl("create", "-f", "-", stdin=held)
    async with asyncio.TaskGroup() as group:
        deleting = group.create_task(kubectl("delete", "cm", "held", "--wait"))
        waiting = group.create_task(kubectl("wait", "--for=delete", "cm/held", "--timeout=20s"))
        with server.store.watch("configmaps") as events:
            async for event in events:
                if "deletionTimestamp" in event.object["metadata"]:
                    break
        assert not deleting.done()
        await kubectl("patch", "cm", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert 'configmap "held" deleted' in deleting.result()
    assert "condition met" in waiting.result()


async def test_get_watch_prints_rows_as_they_change(kubectl: Kubectl, server: ApiServer, tmp_path: Path) -> None:
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        str(KUBECTL), "get", "cm", "-w", "--output-watch-events", stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    seen: list[list[str]] = []
    try:
        await kubectl("create", "cm", "c", "--from-literal=a=b")
        async with asyncio.timeout(20):
            seen.append((await process.stdout.readline()).decode().split())
            seen.append((await process.stdout.readline()).decode().split())
            await kubectl("patch", "cm", "c", "-p", '{"data":{"x":"y"}}')
            seen.append((await process.stdout.readline()).decode().split())
            await kubectl("delete", "cm", "c")
            seen.append((await process.stdout.readline()).decode().split())
    finally:
        process.kill()
        await process.wait()
    assert [row[:3] for row in seen] == [
        ["EVENT", "NAME", "DATA"],
        ["ADDED", "c", "1"],
        ["MODIFIED", "c", "2"],
        ["DELETED", "c", "2"],
    ]


async def test_a_restart_keeps_objects_certificates_and_watches_resume(tmp_path: Path) -> None:
    async with ApiServer(data_dir=tmp_path / "data") as first:
        first.write_kubeconfig(tmp_path / "config", user="kubernetes-admin", groups=["system:masters"])
        address = first.addresses[0]
        kubectl = runner(tmp_path)
        await kubectl("apply", "-f", "-", stdin=APP)
        before = await get_json(kubectl, "deploy,svc")
        version = first.store.version
    async with ApiServer(data_dir=tmp_path / "data", binds=[address]) as second:
        assert await get_json(kubectl, "deploy,svc") == before
        path = f"/api/v1/namespaces/default/services?watch=1&resourceVersion={version}&timeoutSeconds=1"
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(kubectl("get", "--raw", path))
            await second.store.patch("services", "web", {"metadata": {"labels": {"a": "b"}}}, namespace="default")
        events = [json.loads(line) for line in watching.result().splitlines()]
        assert [(e["type"], e["object"]["metadata"]["labels"]) for e in events] == [("MODIFIED", {"a": "b"})]
        assert int(events[0]["object"]["metadata"]["resourceVersion"]) > version


@contextlib.asynccontextmanager
async def server_process(data: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The server as a process of its own, ready to answer; killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kubelab.apiserver", "--data-dir", str(data), "--bind", f"127.0.0.1:{port}"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while b"API server ready" not in (line := await process.stdout.readline()):
                assert line, "the server ended before it was ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kubectl = runner(tmp_path)
    async with server_process(tmp_path / "data", port) as process:
        config = tmp_path / "data" / "admin.kubeconfig"
        async with asyncio.timeout(10):
            while not config.exists():  # noqa: ASYNC110 - written by another process right after it is ready
                await asyncio.sleep(0.01)
        shutil.copy(config, tmp_path / "config")
        await kubectl("apply", "-f", "-", stdin=APP)
        before = await get_json(kubectl, "deploy,svc")
        process.kill()
        await process.wait()
    async with server_process(tmp_path / "data", port) as process:
        assert await get_json(kubectl, "deploy,svc") == before
        process.terminate()
        assert await process.wait() == 0


async def test_a_port_that_is_taken_is_named(server: ApiServer, tmp_path: Path) -> None:
    other = ApiServer(data_dir=tmp_path / "other", binds=[server.addresses[0]])
    with pytest.raises(RuntimeError, match=f"port {server.addresses[0][1]}: Address already in use"):
        await other.start()


# ---- logs and exec, through a kubelet that answers as upstream's does ------------------------------------------------


async def kubelet_logs(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(f"{request.path} tail={request.query.get('tailLines', '')}\n".encode())
    return response


async def kubelet_exec(request: web.Request) -> web.WebSocketResponse:
    """Echo stdin to stdout in capitals, the command to stderr, and leave with code 3."""
    stream = web.WebSocketResponse(protocols=["v5.channel.k8s.io"])
    await stream.prepare(request)
    await stream.send_bytes(b"\x02" + " ".join(request.query.getall("command")).encode() + b"\n")
    if request.query.get("input"):
        async for message in stream:
            if message.type is not WSMsgType.BINARY or message.data[0] == 255:
                break
            if message.data[0] == 0 and len(message.data) > 1:
                await stream.send_bytes(b"\x01" + message.data[1:].upper())
    status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated"}
    status["details"] = {"causes": [{"reason": "ExitCode", "message": "3"}]}
    await stream.send_bytes(b"\x03" + json.dumps(status).encode())
    await stream.close()
    return stream


@contextlib.asynccontextmanager
async def fake_kubelet(path: Path) -> AsyncIterator[None]:
    application = web.Application()
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", kubelet_logs)
    application.router.add_get("/exec/{namespace}/{pod}/{container}", kubelet_exec)
    app_runner = web.AppRunner(application)
    await app_runner.setup()
    await web.UnixSite(app_runner, str(path)).start()
    try:
        yield
    finally:
        await app_runner.cleanup()


@pytest.fixture
async def running_pod(server: ApiServer, tmp_path: Path) -> AsyncIterator[str]:
    path = tmp_path / "kubelet.sock"
    node = {"metadata": {"name": "n1", "annotations": {SOCKET_ANNOTATION: str(path)}}}
    await server.store.create("nodes", node)
    spec = {"nodeName": "n1", "containers": [{"name": "main", "image": "x"}]}
    await server.store.create("pods", {"metadata": {"name": "p"}, "spec": spec}, namespace="default")
    await server.store.patch("pods", "p", {"status": {"phase": "Running"}}, namespace="default", subresource="status")
    async with fake_kubelet(path):
        yield "p"


async def test_logs_come_from_the_kubelet(kubectl: Kubectl, running_pod: str) -> None:
    assert await kubectl("logs", running_pod, "--tail=5") == "/containerLogs/default/p/main tail=5\n"
    with pytest.raises(KubectlError, match="container other is not valid for pod p"):
        await kubectl("logs", running_pod, "-c", "other")


async def test_exec_carries_streams_and_the_exit_code(kubectl: Kubectl, running_pod: str) -> None:
    with pytest.raises(KubectlError, match=r": 3: (?s:.*)HELLO(?s:.*)cat -n"):
        await kubectl("exec", "-i", running_pod, "--", "cat", "-n", stdin="hello\n")


async def test_a_kubelet_that_is_away_is_named(kubectl: Kubectl, server: ApiServer, running_pod: str) -> None:
    away = {"metadata": {"annotations": {SOCKET_ANNOTATION: "/nonexistent/kubelet.sock"}}}
    await server.store.patch("nodes", "n1", away)
    with pytest.raises(KubectlError, match=r"kubelet of node n1 at /nonexistent/kubelet.sock does not answer"):
        await kubectl("logs", running_pod)

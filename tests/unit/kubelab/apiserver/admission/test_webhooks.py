"""Webhooks are asked over TLS: what they see, what their answers do, and what is said when they cannot be asked."""

import asyncio
import ssl

import aiohttp
import pytest
from aiohttp import web
from unit.kubelab.apiserver.webhook import allow, configuration, deny, label, patch, rules, running
from unit.kubelab.apiserver.wire import CONFIG_MAPS, MERGE, body, context

from kubelab.apiserver.server import ApiServer
from kubelab.apiserver.subresources import bind_pod

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
CREATE_MAPS = rules("configmaps")


@pytest.fixture
async def webhook(tmp_path):
    async with running(tmp_path, "echo.default.svc") as found:
        yield found


async def install(server, kind, *hooks, name="test"):
    resource = MUTATING if kind == "Mutating" else VALIDATING
    return await server.store.create(resource, configuration(kind, name, *hooks))


async def test_a_mutating_webhook_changes_what_is_kept_and_a_validating_one_sees_it(server, http, webhook):
    change = webhook.at("/mutate", label("team", "net"))
    look = webhook.at("/validate", allow)
    await install(server, "Mutating", {"clientConfig": change, "rules": CREATE_MAPS})
    await install(server, "Validating", {"clientConfig": look, "rules": CREATE_MAPS})
    made = await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "a"}, "data": {"k": "v"}})
    assert made["metadata"]["labels"] == {"team": "net"}
    (asked,) = webhook.seen["/mutate"]
    assert asked["object"]["data"] == {"k": "v"}
    assert asked["object"]["metadata"]["uid"] == made["metadata"]["uid"]
    assert asked["oldObject"] is None
    assert asked["kind"] == asked["requestKind"] == {"group": "", "version": "v1", "kind": "ConfigMap"}
    assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
    assert (asked["name"], asked["namespace"], asked["operation"], asked["dryRun"]) == ("a", "default", "CREATE", False)
    assert asked["userInfo"]["username"] == "admin"
    assert "system:masters" in asked["userInfo"]["groups"]
    assert asked["options"]["kind"] == "CreateOptions"
    (judged,) = webhook.seen["/validate"]
    assert judged["object"]["metadata"]["labels"] == {"team": "net"}


async def test_refusals_are_told_in_the_words_of_the_real_server(server, http, webhook):
    async def refused(answer, status):
        webhook.at("/v", answer)
        return await body(http, "POST", CONFIG_MAPS, status=status, json={"metadata": {"name": "a"}})

    await install(server, "Validating", {"clientConfig": webhook.at("/v", allow), "rules": CREATE_MAPS})
    denied = 'admission webhook "hook0.test.test" denied the request'
    plain = await refused(deny(), 400)
    assert plain["message"] == f"{denied} without explanation"
    told = await refused(deny("no such team", code=403, reason="Forbidden"), 403)
    assert (told["message"], told["reason"]) == (f"{denied}: no such team", "Forbidden")
    causes = {"causes": [{"field": "data", "message": "x", "reason": "FieldValueInvalid"}], "kind": "ConfigMap"}
    detailed = await refused(deny("bad", code=422, reason="Invalid", details=causes), 422)
    assert detailed["details"]["causes"][0]["field"] == "data"
    assert (await refused(deny("200 is no refusal", code=200), 400))["message"].endswith(": 200 is no refusal")
    assert server.store.peek("configmaps", "a", namespace="default") is None


async def test_updates_and_deletions_are_asked_about_with_the_old_object(server, http, webhook):
    everything = rules("configmaps", operations=("*",))
    await install(server, "Validating", {"clientConfig": webhook.at("/v", allow), "rules": everything})
    await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "a"}})
    await body(http, "PATCH", f"{CONFIG_MAPS}/a", json={"data": {"k": "new"}}, headers=MERGE)
    await body(http, "DELETE", f"{CONFIG_MAPS}/a")
    created, updated, deleted = webhook.seen["/v"]
    assert [request["operation"] for request in (created, updated, deleted)] == ["CREATE", "UPDATE", "DELETE"]
    assert "data" not in updated["oldObject"]
    assert updated["object"]["data"] == {"k": "new"}
    assert deleted["object"] is None
    assert deleted["oldObject"]["data"] == {"k": "new"}

    webhook.at("/v", deny("keep it"))
    server.store.create_now("configmaps", {"metadata": {"name": "b"}}, namespace="default")
    kept = await body(http, "DELETE", f"{CONFIG_MAPS}/b", status=400)
    assert kept["message"].endswith("denied the request: keep it")


async def test_rules_and_selectors_choose_writes(server, http, webhook):
    store = server.store
    await store.create("namespaces", {"metadata": {"name": "watched", "labels": {"watch": "yes"}}})
    await install(
        server,
        "Validating",
        {
            "clientConfig": webhook.at("/selected", allow),
            "rules": rules("*"),
            "namespaceSelector": {"matchLabels": {"watch": "yes"}},
            "objectSelector": {"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]},
        },
        {"clientConfig": webhook.at("/cluster", allow), "rules": rules("*/*", scope="Cluster")},
        {"clientConfig": webhook.at("/status", allow), "rules": rules("pods/status", operations=("UPDATE",))},
        {"clientConfig": webhook.at("/never", deny()), "rules": rules("configmaps", group="apps")},
    )
    for namespace, labels in (("default", {}), ("watched", {}), ("watched", {"skip": "me"})):
        await store.create("configmaps", {"metadata": {"generateName": "c-", "labels": labels}}, namespace=namespace)
    assert [request["namespace"] for request in webhook.seen["/selected"]] == ["watched"]
    await store.create("namespaces", {"metadata": {"name": "other"}})
    assert [request["name"] for request in webhook.seen["/cluster"]] == ["other"]
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await store.create("pods", pod, namespace="default")
    await store.patch("pods", "p", {"status": {"phase": "Running"}}, namespace="default", subresource="status")
    (report,) = webhook.seen["/status"]
    assert (report["subResource"], report["object"]["status"]["phase"]) == ("status", "Running")
    # Without a requester it is the system that writes.
    assert report["userInfo"]["username"] == "system:kube-controller-manager"


async def test_subresources_that_store_nothing_are_asked_about_as_what_they_are(server, http, webhook):
    store = server.store
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    await store.create("pods", pod, namespace="default")
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}
    deployment = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await store.create("deployments.apps", deployment, namespace="default")
    everything = rules("*/*", operations=("UPDATE",))
    await install(server, "Mutating", {"clientConfig": webhook.at("/m", allow), "rules": everything})
    await bind_pod(store, "default", "p", node="n1")
    assert webhook.seen["/m"] == []
    both = [
        *rules("pods/eviction", "pods/exec", "pods/binding", operations=("CREATE", "CONNECT")),
        *rules("deployments/scale", group="apps", operations=("UPDATE",)),
    ]
    await install(server, "Validating", {"clientConfig": webhook.at("/v", deny()), "rules": both})
    base = "/api/v1/namespaces/default/pods/p"
    await body(http, "POST", f"{base}/eviction", status=400, json={"metadata": {"name": "p"}})
    await body(http, "POST", f"{base}/exec?command=ls&command=-l&stdin=true", status=400)
    await body(http, "POST", f"{base}/binding", status=400, json={"target": {"name": "n2"}})
    scale = "/apis/apps/v1/namespaces/default/deployments/d/scale"
    await body(http, "PATCH", scale, status=400, json={"spec": {"replicas": 3}}, headers=MERGE)
    eviction, execution, binding, scaling = webhook.seen["/v"]
    assert eviction["kind"] == {"group": "policy", "version": "v1", "kind": "Eviction"}
    assert (execution["operation"], execution["object"]["command"], execution["name"]) == ("CONNECT", ["ls", "-l"], "p")
    assert binding["object"]["target"] == {"name": "n2"}
    assert scaling["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert (scaling["object"]["spec"], scaling["oldObject"]["spec"]) == ({"replicas": 3}, {"replicas": 1})
    assert (await store.get("deployments.apps", "d", namespace="default"))["spec"]["replicas"] == 1


async def test_webhooks_are_asked_again_when_somebody_behind_them_changed_the_object(server, webhook):
    def count(request):
        containers = len(request["object"]["spec"]["containers"])
        return patch({"op": "add", "path": "/metadata/annotations", "value": {"containers": str(containers)}})(request)

    sidecar = {"op": "add", "path": "/spec/containers/-", "value": {"name": "proxy", "image": "proxy", "nonsense": 1}}
    once = {"clientConfig": webhook.at("/once", count), "rules": rules("pods")}
    again = {"clientConfig": webhook.at("/again", count), "rules": rules("pods"), "reinvocationPolicy": "IfNeeded"}
    inject = {"clientConfig": webhook.at("/inject", patch(sidecar)), "rules": rules("pods")}
    await install(server, "Mutating", once, again, inject)
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    made = await server.store.create("pods", pod, namespace="default")
    assert [len(webhook.seen[path]) for path in ("/once", "/again", "/inject")] == [1, 2, 1]
    assert made["metadata"]["annotations"]["containers"] == "2"
    injected = made["spec"]["containers"][1]
    # What was added is completed, and rid of what the kind does not have.
    assert injected["terminationMessagePath"] == "/dev/termination-log"
    assert injected["volumeMounts"][0]["mountPath"].startswith("/var/run/secrets/")
    assert "nonsense" not in injected


async def test_what_cannot_be_asked_fails_the_write_or_is_ignored(server, http, webhook):
    async def failing(client, *, status=500, **hook):
        await server.store.delete(VALIDATING, "test") if server.store.peek(VALIDATING, "test") else None
        await install(server, "Validating", {"clientConfig": client, "rules": CREATE_MAPS, **hook})
        answer = await body(http, "POST", CONFIG_MAPS, status=status, json={"metadata": {"generateName": "a-"}})
        return answer.get("message", "")

    called = 'Internal error occurred: failed calling webhook "hook0.test.test": failed to call webhook: '
    found = webhook.at("/v", allow)
    where = f"https://127.0.0.1:{webhook.port}/v?timeout=5s"
    nobody = {**found, "url": "https://127.0.0.1:1/v"}
    refused = 'Post "https://127.0.0.1:1/v?timeout=5s": dial tcp 127.0.0.1:1: connect: connection refused'
    assert await failing(nobody) == called + refused
    assert await failing(nobody, status=201, failurePolicy="Ignore") == ""
    service = {"service": {"namespace": "default", "name": "gone", "path": "/x"}}
    assert (
        await failing(service) == f'{called}Post "https://gone.default.svc:443/x?timeout=5s": service "gone" not found'
    )
    unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    assert await failing({"url": found["url"]}) == f'{called}Post "{where}": {unknown}'
    localhost = {**found, "url": f"https://localhost:{webhook.port}/v"}
    assert "x509: certificate is not valid for any names, but wanted to match localhost" in await failing(localhost)

    nowhere = {**found, "url": f"https://127.0.0.1:{webhook.port}/a b"}
    assert (await failing(nowhere)).endswith("Illegal target characters")
    assert await failing(nowhere, status=201, failurePolicy="Ignore") == ""

    webhook.at("/v", lambda _: web.Response(status=404))
    assert await failing(found) == f"{called}the server could not find the requested resource"
    webhook.at("/v", lambda _: web.Response(status=500, text="boom"))
    assert await failing(found) == f'{called}an error on the server ("boom") has prevented the request from succeeding'
    webhook.at("/v", lambda request: {**allow(request), "uid": "other"})
    uid = webhook.seen["/v"]
    message = await failing(found)
    assert message.endswith(f'received invalid webhook response: expected response.uid="{uid[-1]["uid"]}", got "other"')
    webhook.at("/v", patch({"op": "add", "path": "/data", "value": {}}))
    assert (await failing(found)).endswith("validating webhook may not return response.patch")
    assert await failing(found, status=201, failurePolicy="Ignore") == ""


async def test_a_webhook_that_is_silent_is_given_up(server, http, webhook):
    silent = await asyncio.start_server(lambda *_: asyncio.Event().wait(), "127.0.0.1", 0)
    async with silent:
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v"
        client = {"url": url, "caBundle": webhook.bundle}
        await install(server, "Validating", {"clientConfig": client, "rules": CREATE_MAPS, "timeoutSeconds": 1})
        answer = await body(http, "POST", CONFIG_MAPS, status=500, json={"metadata": {"name": "a"}})
        silent.close()
    assert answer["message"].endswith(f'failed to call webhook: Post "{url}?timeout=1s": context deadline exceeded')


async def test_warnings_dry_runs_and_conditions(server, http, webhook):
    warned = webhook.at("/w", lambda _: {"allowed": True, "warnings": ["use a Secret"]})
    condition = {"name": "not-mine", "expression": "object.metadata.name != 'mine'"}
    hook = {"clientConfig": warned, "rules": CREATE_MAPS, "matchConditions": [condition]}
    await install(server, "Validating", hook)
    async with http.post(f"{CONFIG_MAPS}?dryRun=All", json={"metadata": {"name": "a"}}) as response:
        assert response.status == 201
        assert response.headers["Warning"] == '299 - "use a Secret"'
    assert webhook.seen["/w"][0]["dryRun"] is True
    assert webhook.seen["/w"][0]["options"]["dryRun"] == ["All"]
    await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "mine"}})
    assert len(webhook.seen["/w"]) == 1

    broken = {**hook, "matchConditions": [{"name": "c", "expression": "object.spec.nope == 1"}]}
    await server.store.delete(VALIDATING, "test")
    await install(server, "Validating", broken)
    refused = await body(http, "POST", CONFIG_MAPS, status=403, json={"metadata": {"name": "b"}})
    assert refused["message"] == (
        "configmaps \"b\" is forbidden: expression 'object.spec.nope == 1' resulted in error: no such key: spec"
    )
    malformed = configuration("Validating", "x", {**hook, "matchConditions": [{"name": "c", "expression": "object."}]})
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    answer = await body(http, "POST", path, status=422, json=malformed)
    assert answer["details"]["causes"][0]["field"] == "webhooks[0].matchConditions[0].expression"
    assert "compilation failed: ERROR: <input>:1:8: Syntax error" in answer["message"]


async def test_what_changes_while_a_webhook_thinks_is_not_lost(server, http, webhook):
    """Patches start anew, updates of a version that is gone are conflicts."""
    store = server.store
    store.create_now("configmaps", {"metadata": {"name": "a"}}, namespace="default")
    interfere = ["x", "y"]

    def meanwhile(request):
        if interfere:
            changed = {"metadata": {"name": "a"}, "data": {"meanwhile": interfere.pop()}}
            stored = {**store.peek("configmaps", "a", namespace="default"), **changed}
            stored["metadata"] = store.peek("configmaps", "a", namespace="default")["metadata"]
            store.replace("configmaps", stored)
        return {"allowed": True}

    updates = rules("configmaps", operations=("UPDATE",))
    await install(server, "Validating", {"clientConfig": webhook.at("/v", meanwhile), "rules": updates})
    made = await body(http, "PATCH", f"{CONFIG_MAPS}/a", json={"data": {"mine": "1"}}, headers=MERGE)
    assert made["data"] == {"mine": "1", "meanwhile": "x"}
    assert len(webhook.seen["/v"]) == 3
    interfere.append("z")
    conflict = await body(http, "PUT", f"{CONFIG_MAPS}/a", status=409, json={**made, "data": {}})
    assert "the object has been modified" in conflict["message"]


async def test_nobody_shuts_out_those_who_would_let_them_in(server, http, webhook):
    everything = [{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]
    await install(server, "Validating", {"clientConfig": webhook.at("/v", deny()), "rules": everything})
    await body(http, "POST", CONFIG_MAPS, status=400, json={"metadata": {"name": "a"}})
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/test"
    await body(http, "DELETE", path)
    await body(http, "POST", CONFIG_MAPS, status=201, json={"metadata": {"name": "a"}})


async def test_webhooks_are_asked_by_a_server_that_was_started_again(tmp_path, webhook):
    async with ApiServer(data_dir=tmp_path / "data") as first:
        await install(first, "Validating", {"clientConfig": webhook.at("/v", deny()), "rules": CREATE_MAPS})
    async with ApiServer(data_dir=tmp_path / "data") as second:
        tls: ssl.SSLContext = context(second, tmp_path)
        async with aiohttp.ClientSession(second.url, connector=aiohttp.TCPConnector(ssl=tls)) as http:
            await body(http, "POST", CONFIG_MAPS, status=400, json={"metadata": {"name": "a"}})

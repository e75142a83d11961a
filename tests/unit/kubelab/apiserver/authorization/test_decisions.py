"""RBAC and the rights of kubelets, without a server."""

import time

import pytest

from kubelab.apiserver.authorization import roles
from kubelab.apiserver.authorization.aggregation import aggregated_rules
from kubelab.apiserver.authorization.attributes import Attributes, refusal, request_attributes
from kubelab.apiserver.authorization.node import NodeAuthorizer
from kubelab.apiserver.authorization.rbac import BINDINGS, CLUSTER_BINDINGS, CLUSTER_ROLES, ROLES, RbacAuthorizer
from kubelab.apiserver.authorization.rules import Rule, missing
from kubelab.apiserver.bootstrap import create_policy
from kubelab.apiserver.users import User, account_groups

BOB = User("bob", ("devs", "system:authenticated"))


def rule(resources: str, verbs: str = "get", groups: str = "core", names: str = "") -> dict:
    return roles._rule(groups, resources, verbs, names=names)


async def grant(store, rules, *subjects, namespace="", name="r"):
    """A role and its binding."""
    cluster = not namespace
    body = {"metadata": {"name": name}, "rules": list(rules)}
    await store.create(CLUSTER_ROLES if cluster else ROLES, body, namespace=namespace)
    reference = {"kind": "ClusterRole" if cluster else "Role", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": list(subjects)}
    await store.create(CLUSTER_BINDINGS if cluster else BINDINGS, binding, namespace=namespace)


def asks(verb, resource, *, user=BOB, namespace="default", name="", group=""):
    plain, _, subresource = resource.partition("/")
    return Attributes(user, verb, group, plain, subresource, namespace, name)


@pytest.mark.parametrize(
    ("held", "asked", "allowed"),
    [
        (rule("pods"), asks("get", "pods"), True),
        (rule("pods"), asks("list", "pods"), False),
        (rule("pods"), asks("get", "pods/log"), False),
        (rule("pods/log"), asks("get", "pods/log"), True),
        (rule("pods/log"), asks("get", "pods"), False),
        (rule("*/scale", groups="*"), asks("get", "deployments/scale", group="apps"), True),
        (rule("*/scale"), asks("get", "deployments/scale", group="apps"), False),
        (rule("*"), asks("get", "pods/exec"), True),
        (rule("pods", verbs="*"), asks("deletecollection", "pods"), True),
        (rule("pods", groups="*"), asks("get", "pods", group="metrics.k8s.io"), True),
        (rule("pods"), asks("get", "pods", group="metrics.k8s.io"), False),
        (rule("configmaps", names="a b"), asks("get", "configmaps", name="b"), True),
        (rule("configmaps", names="a b"), asks("get", "configmaps", name="c"), False),
        (rule("configmaps", "list", names="a"), asks("list", "configmaps"), False),
        (roles._urls("/metrics /debug/*"), Attributes(BOB, "get", path="/debug/pprof"), True),
        (roles._urls("/metrics /debug/*"), Attributes(BOB, "get", path="/metrics/slis"), False),
        (roles._urls("/metrics"), Attributes(BOB, "post", path="/metrics"), False),
    ],
)
async def test_a_rule_covers_what_it_says(store, held, asked, allowed):
    await grant(store, [held], {"kind": "User", "name": "bob"})
    decision = RbacAuthorizer(store).decide(asked)
    assert decision.allowed is allowed
    if allowed:
        assert decision.reason == 'RBAC: allowed by ClusterRoleBinding "r" of ClusterRole "r" to User "bob"'


async def test_groups_accounts_and_namespaces(store):
    await store.create("namespaces", {"metadata": {"name": "other"}})
    rbac = RbacAuthorizer(store)
    account = User("system:serviceaccount:other:sa", (*account_groups("other"), "system:authenticated"))
    assert not rbac.decide(asks("get", "pods")).allowed
    await grant(store, [rule("pods")], {"kind": "Group", "name": "devs"}, namespace="default", name="g")
    subject = {"kind": "ServiceAccount", "name": "sa", "namespace": "other"}
    await grant(store, [rule("secrets")], subject, namespace="default", name="s")
    assert rbac.decide(asks("get", "pods")).allowed
    assert not rbac.decide(asks("get", "pods", namespace="other")).allowed
    assert not rbac.decide(asks("get", "pods", namespace="")).allowed
    allowed = rbac.decide(asks("get", "secrets", user=account))
    assert allowed.reason == 'RBAC: allowed by RoleBinding "s/default" of Role "s" to ServiceAccount "sa/other"'
    assert not rbac.decide(asks("get", "secrets", user=account, namespace="other")).allowed

    await store.delete(ROLES, "g", namespace="default")
    gone = rbac.decide(asks("get", "pods"))
    assert (gone.allowed, gone.reason) == (False, 'RBAC: role.rbac.authorization.k8s.io "g" not found')
    await store.delete(BINDINGS, "s", namespace="default")
    assert not rbac.decide(asks("get", "secrets", user=account)).allowed


async def test_a_decision_costs_microseconds(store):
    await create_policy(store)
    for index in range(200):
        await grant(store, [rule("pods")], {"kind": "User", "name": f"u{index}"}, name=f"x{index}")
    rbac, asked = RbacAuthorizer(store), asks("get", "pods", user=User("u7", ("system:authenticated",)))
    assert rbac.decide(asked).allowed
    started = time.perf_counter()
    for _ in range(1000):
        rbac.decide(asked)
    assert (time.perf_counter() - started) / 1000 < 100e-6


async def test_the_bootstrap_roles_aggregate_and_are_made_once(store):
    await create_policy(store)
    await create_policy(store)
    admin = store.peek(CLUSTER_ROLES, "admin")["rules"]
    held = [Rule.read(r) for r in admin]
    assert not missing(held, [Rule.read(r) for r in store.peek(CLUSTER_ROLES, "view")["rules"]])
    assert not missing(held, [Rule(("create",), ("",), ("pods/exec",))])
    assert missing(
        [Rule.read(r) for r in store.peek(CLUSTER_ROLES, "view")["rules"]], [Rule(("get",), ("",), ("secrets",))]
    )
    labels = {f"{roles.AGGREGATE}view": "true"}
    extra = {"metadata": {"name": "widgets", "labels": labels}, "rules": [rule("widgets", groups="demo.io")]}
    await store.create(CLUSTER_ROLES, extra)
    rules = aggregated_rules(store.peek(CLUSTER_ROLES, "view"), store.peek_all(CLUSTER_ROLES))
    assert extra["rules"][0] in rules


def test_what_is_missing_is_told_compactly():
    held = [Rule(("get", "list"), ("",), ("pods",)), Rule(("get",), urls=("/api/*",))]
    wanted = [
        Rule(("get", "watch", "delete"), ("",), ("pods", "secrets")),
        Rule(("get",), urls=("/api/v1", "/metrics")),
    ]
    assert [str(r) for r in missing(held, wanted)] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}',
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "watch" "delete"]}',
        '{NonResourceURLs:["/metrics"], Verbs:["get"]}',
    ]


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "", "pods", "", "", "")),
        ("GET", "/api/v1/namespaces/n/pods", {"watch": "1"}, ("watch", "", "pods", "", "n", "")),
        ("GET", "/api/v1/namespaces/n/pods/p/log", {}, ("get", "", "pods", "log", "n", "p")),
        ("POST", "/api/v1/namespaces/n/pods/p/exec", {}, ("create", "", "pods", "exec", "n", "p")),
        ("GET", "/api/v1/namespaces/n", {}, ("get", "", "namespaces", "", "n", "n")),
        ("PUT", "/api/v1/namespaces/n/finalize", {}, ("update", "", "namespaces", "finalize", "n", "n")),
        (
            "DELETE",
            "/apis/apps/v1/namespaces/n/deployments",
            {},
            ("deletecollection", "apps", "deployments", "", "n", ""),
        ),
        ("GET", "/apis/x.io/v1/things", {"fieldSelector": "metadata.name=a"}, ("list", "x.io", "things", "", "", "a")),
        ("PATCH", "/apis/x.io/v1/things/a/status", {}, ("patch", "x.io", "things", "status", "", "a")),
    ],
)
def test_what_a_request_asks_for(method, path, query, expected):
    found = request_attributes(BOB, method, path, query)
    assert (found.verb, found.group, found.resource, found.subresource, found.namespace, found.name) == expected


def test_refusals_have_the_words_of_the_real_server():
    assert refusal(request_attributes(BOB, "GET", "/api/v1/namespaces/y/pods", {})).message == (
        'pods is forbidden: User "bob" cannot list resource "pods" in API group "" in the namespace "y"'
    )
    named = refusal(request_attributes(BOB, "GET", "/apis/apps/v1/namespaces/y/deployments/web/scale", {}))
    assert named.message == (
        'deployments.apps "web" is forbidden: User "bob" cannot get resource "deployments/scale" in API group "apps" '
        'in the namespace "y"'
    )
    assert named.status()["details"] == {"name": "web", "group": "apps", "kind": "deployments"}
    cluster = refusal(request_attributes(BOB, "GET", "/api/v1/nodes", {}))
    assert cluster.message.endswith('cannot list resource "nodes" in API group "" at the cluster scope')
    assert refusal(request_attributes(BOB, "GET", "/metrics", {})).message == (
        'forbidden: User "bob" cannot get path "/metrics"'
    )


async def test_a_kubelet_sees_what_its_pods_refer_to(store, pod):
    node = NodeAuthorizer(store)
    mine, other = (User(f"system:node:{name}", ("system:nodes",)) for name in ("n1", "n2"))
    obj = pod()
    obj["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "s"}}]
    obj["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "c"}}]
    await store.create("pods", obj, namespace="default")
    secret, config = (asks("get", r, user=mine, name=n) for r, n in (("secrets", "s"), ("configmaps", "c")))
    token = asks("create", "serviceaccounts/token", user=mine, name="default")
    refused = node.decide(secret)
    assert refused.reason == "no relationship found between node 'n1' and this object"
    await store.patch("pods", "web", {"spec": {"nodeName": "n1"}}, namespace="default", subresource="binding")
    assert all(node.decide(asked).allowed for asked in (secret, config, token))
    assert not node.decide(asks("get", "secrets", user=mine, name="t")).allowed
    assert not node.decide(asks("get", "secrets", user=other, name="s")).allowed
    assert not node.decide(asks("update", "secrets", user=mine, name="s")).allowed
    assert not node.decide(asks("create", "deployments", user=mine, group="apps")).allowed
    lease = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
    assert node.decide(asks("update", "leases", user=mine, name="n1", **lease)).allowed
    assert not node.decide(asks("update", "leases", user=mine, name="n2", **lease)).allowed
    assert NodeAuthorizer(store).decide(secret).allowed, "a server that starts again knows the pods that are there"
    await store.delete("pods", "web", namespace="default", grace_seconds=0)
    assert not node.decide(secret).allowed


async def test_a_kubelet_reads_single_objects_and_lists_only_what_is_its_own(store, pod):
    node, mine = NodeAuthorizer(store), User("system:node:n1", ("system:nodes",))
    obj = pod()
    obj["spec"]["nodeName"] = "n1"
    obj["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "s"}}]
    ephemeral = {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
    obj["spec"]["volumes"] = [{"name": "v", **ephemeral}]
    await store.create("pods", obj, namespace="default")

    def decide(path, *, method="GET", **query):
        return node.decide(request_attributes(mine, method, path, {"fieldSelector": "", **query}))

    secrets = "/api/v1/namespaces/default/secrets"
    assert decide(secrets, fieldSelector="metadata.name=s", watch="true").allowed
    assert decide(secrets, fieldSelector="metadata.name=s").allowed
    assert decide(secrets).reason == "No Object name found"
    assert decide("/api/v1/secrets").reason == "can only read namespaced object of this type"
    assert decide(f"{secrets}/s", method="DELETE").reason == "can only read resources of this type"
    assert decide(secrets, fieldSelector="metadata.name=t").reason.startswith("no relationship found")

    assert decide("/api/v1/pods", fieldSelector="spec.nodeName=n1", watch="true").allowed
    assert decide("/api/v1/namespaces/default/pods/web").allowed
    assert not decide("/api/v1/namespaces/default/pods/other").allowed
    for fields in ("", "spec.nodeName=n2"):
        refused = decide("/api/v1/pods", fieldSelector=fields)
        assert refused.reason == "can only list/watch pods with spec.nodeName field selector"
    assert decide("/api/v1/nodes/n1").allowed
    assert decide("/api/v1/nodes", fieldSelector="metadata.name=n1", watch="true").allowed
    assert decide("/api/v1/nodes").reason == "node 'n1' cannot read all nodes, only its own Node object"
    assert decide("/api/v1/nodes/n2").reason == "node 'n1' cannot read 'n2', only its own Node object"

    claim = {"metadata": {"name": "web-v"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "pv"}}
    claim["spec"]["resources"] = {"requests": {"storage": "1Gi"}}
    await store.create("persistentvolumeclaims", claim, namespace="default")
    claims = "/api/v1/namespaces/default/persistentvolumeclaims"
    assert decide(f"{claims}/web-v").allowed
    assert decide(claims).reason == "can only get individual resources of this type"
    assert decide("/api/v1/persistentvolumes/pv").allowed
    assert not decide("/api/v1/persistentvolumes/other").allowed

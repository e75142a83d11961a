"""Users at a running server: refusals, impersonation, escalation, reviews."""

import base64
import json

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from unit.kubelab.apiserver.wire import body

RBAC = "/apis/rbac.authorization.k8s.io/v1"
DEFAULT = f"{RBAC}/namespaces/default"
REVIEWS = "/apis/authorization.k8s.io/v1"


def bob(*groups: str) -> dict[str, list[tuple[str, str]]]:
    return {"headers": [("Impersonate-User", "bob"), *(("Impersonate-Group", group) for group in groups)]}


def role(name: str, *, resources: list[str], verbs: list[str]) -> dict:
    return {"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}]}


def binding(name: str, role_name: str, *, kind: str = "Role", user: str = "bob") -> dict:
    subjects = [{"kind": "User", "name": user}]
    return {"metadata": {"name": name}, "roleRef": {"kind": kind, "name": role_name}, "subjects": subjects}


async def test_a_user_has_discovery_and_nothing_else(http):
    for path in ("/api", "/apis/apps/v1", "/openapi/v3", "/version"):
        await body(http, "GET", path, **bob())
    refused = await body(http, "GET", "/api/v1/namespaces/default/pods", status=403, **bob())
    assert refused["reason"] == "Forbidden"
    assert refused["details"] == {"kind": "pods"}
    assert 'User "bob" cannot list resource "pods"' in refused["message"]
    unknown = await body(http, "GET", "/apis/nowhere/v1/things", status=403, **bob())
    assert "things.nowhere is forbidden" in unknown["message"], "what there is not, is no business of his"
    me = await body(
        http, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", status=201, json={}, **bob("dev")
    )
    assert me["status"]["userInfo"] == {"username": "bob", "groups": ["dev", "system:authenticated"]}


async def test_impersonation_is_a_right_of_its_own(http):
    await body(http, "GET", "/api", status=500, headers={"Impersonate-Group": "system:masters"})
    account = {"Impersonate-User": "system:serviceaccount:default:sa"}
    me = await body(
        http, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", status=201, json={}, headers=account
    )
    assert me["status"]["userInfo"]["groups"] == [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ]


async def test_nobody_grants_what_they_do_not_hold(http):
    await body(http, "POST", f"{DEFAULT}/roles", status=201, json=role("r", resources=["roles", "pods"], verbs=["get"]))
    owner = {
        "apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["roles", "rolebindings"],
        "verbs": ["create", "update"],
    }
    rules = {"metadata": {"name": "owner"}, "rules": [owner, role("", resources=["pods"], verbs=["get"])["rules"][0]]}
    await body(http, "POST", f"{DEFAULT}/roles", status=201, json=rules)
    await body(http, "POST", f"{DEFAULT}/rolebindings", status=201, json=binding("owner", "owner"))

    await body(
        http, "POST", f"{DEFAULT}/roles", status=201, json=role("fine", resources=["pods"], verbs=["get"]), **bob()
    )
    refused = await body(
        http,
        "POST",
        f"{DEFAULT}/roles",
        status=403,
        json=role("more", resources=["pods"], verbs=["get", "delete"]),
        **bob(),
    )
    assert refused["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "bob" (groups=["system:authenticated"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
    )
    grows = role("fine", resources=["pods", "secrets"], verbs=["get"])
    await body(http, "PUT", f"{DEFAULT}/roles/fine", status=403, json=grows, **bob())
    bound = binding("view", "view", kind="ClusterRole", user="eve")
    refused = await body(http, "POST", f"{DEFAULT}/rolebindings", status=403, json=bound, **bob())
    assert 'Resources:["secrets"]' not in refused["message"]
    assert 'Resources:["configmaps"], Verbs:["get" "list" "watch"]' in refused["message"]
    absent = await body(http, "POST", f"{DEFAULT}/rolebindings", status=404, json=binding("x", "nothing"), **bob())
    assert absent["details"]["kind"] == "roles"

    bind = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"]}
    may = {"metadata": {"name": "binds"}, "rules": [{**bind, "resourceNames": ["view"]}]}
    await body(http, "POST", f"{RBAC}/clusterroles", status=201, json=may)
    await body(
        http, "POST", f"{RBAC}/clusterrolebindings", status=201, json=binding("binds", "binds", kind="ClusterRole")
    )
    await body(http, "POST", f"{DEFAULT}/rolebindings", status=201, json=bound, **bob())
    changed = {**bound, "roleRef": {"kind": "ClusterRole", "name": "edit"}}
    fixed = await body(http, "PUT", f"{DEFAULT}/rolebindings/view", status=422, json=changed)
    assert fixed["details"]["causes"][0]["message"].endswith("cannot change roleRef")


async def test_access_reviews(http):
    await body(http, "POST", f"{DEFAULT}/rolebindings", status=201, json=binding("v", "view", kind="ClusterRole"))
    about = {"verb": "list", "resource": "pods", "namespace": "default"}
    answer = await body(
        http,
        "POST",
        f"{REVIEWS}/selfsubjectaccessreviews",
        status=201,
        json={"spec": {"resourceAttributes": about}},
        **bob(),
    )
    assert answer["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "v/default" of ClusterRole "view" to User "bob"',
    }
    other = {"user": "eve", "resourceAttributes": about}
    answer = await body(http, "POST", f"{REVIEWS}/subjectaccessreviews", status=201, json={"spec": other})
    assert answer["status"] == {"allowed": False}
    await body(http, "POST", f"{REVIEWS}/subjectaccessreviews", status=403, json={"spec": other}, **bob())
    local = f"{REVIEWS}/namespaces/kube-system/localsubjectaccessreviews"
    wrong = await body(http, "POST", local, status=422, json={"spec": other})
    assert wrong["details"]["causes"][0]["field"] == "spec.resourceAttributes.namespace"
    path = {
        "spec": {
            "user": "eve",
            "groups": ["system:authenticated"],
            "nonResourceAttributes": {"path": "/api", "verb": "get"},
        }
    }
    assert (await body(http, "POST", f"{REVIEWS}/subjectaccessreviews", status=201, json=path))["status"]["allowed"]
    rules = await body(
        http, "POST", f"{REVIEWS}/selfsubjectrulesreviews", status=201, json={"spec": {"namespace": "default"}}, **bob()
    )
    assert any("pods/log" in r["resources"] for r in rules["status"]["resourceRules"])
    assert any("/api" in r["nonResourceURLs"] for r in rules["status"]["nonResourceRules"])
    assert rules["status"]["incomplete"] is False


async def test_tokens_are_for_an_audience_and_die_with_what_they_are_bound_to(http):
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    secret = {"metadata": {"name": "s"}, "type": "Opaque"}
    await body(http, "POST", "/api/v1/namespaces/default/secrets", status=201, json=secret)
    reference = {"kind": "Secret", "apiVersion": "v1", "name": "s"}
    spec = {"audiences": ["vault"], "expirationSeconds": 700, "boundObjectRef": reference}
    answer = await body(http, "POST", f"{accounts}/default/token", status=201, json={"spec": spec})
    token = answer["status"]["token"]
    review = "/apis/authentication.k8s.io/v1/tokenreviews"
    good = await body(http, "POST", review, status=201, json={"spec": {"token": token, "audiences": ["vault", "x"]}})
    assert good["status"]["audiences"] == ["vault"]
    assert good["status"]["user"]["username"] == "system:serviceaccount:default:default"
    wrong = await body(http, "POST", review, status=201, json={"spec": {"token": token}})
    assert "audiences" in wrong["status"]["error"]
    await body(http, "DELETE", "/api/v1/namespaces/default/secrets/s")
    gone = await body(http, "POST", review, status=201, json={"spec": {"token": token, "audiences": ["vault"]}})
    assert "secret default/s of this token is gone" in gone["status"]["error"]
    short = await body(http, "POST", f"{accounts}/default/token", status=422, json={"spec": {"expirationSeconds": 1}})
    assert "less than 10 minutes" in short["message"]
    await body(http, "POST", f"{accounts}/default/token", status=404, json={"spec": {"boundObjectRef": reference}})
    await body(http, "POST", f"{accounts}/absent/token", status=404, json={"spec": {}})


async def test_others_can_check_tokens_with_the_published_keys(http):
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    token = (await body(http, "POST", path, status=201, json={"spec": {}}))["status"]["token"]
    issuer = await body(http, "GET", "/.well-known/openid-configuration")
    assert issuer["issuer"] == claims(token, 1)["iss"]
    keys = {key["kid"]: key for key in (await body(http, "GET", "/openid/v1/jwks"))["keys"]}
    key = keys[claims(token, 0)["kid"]]
    x, y = (int.from_bytes(decoded(key[name]), "big") for name in ("x", "y"))
    signed, _, signature = token.rpartition(".")
    r, s = (int.from_bytes(part, "big") for part in (decoded(signature)[:32], decoded(signature)[32:]))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(utils.encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
    await body(http, "GET", "/openid/v1/jwks", status=403, **bob())


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims(token: str, part: int) -> dict:
    return json.loads(decoded(token.split(".")[part]))

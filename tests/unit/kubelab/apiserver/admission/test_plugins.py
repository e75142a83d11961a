"""What admission makes of writes, and what it refuses: the plugins in a store, as the server puts them there."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kubelab.apiserver.accounts import DefaultAccounts
from kubelab.apiserver.admission.chain import plugins
from kubelab.apiserver.authorization.chain import Chain, Masters
from kubelab.apiserver.authorization.rbac import RbacAuthorizer
from kubelab.apiserver.bootstrap import create_policy
from kubelab.apiserver.errors import Forbidden, TooManyRequests
from kubelab.apiserver.evictions import BUDGETS, evict
from kubelab.apiserver.users import REQUESTER, WARNINGS, User

KEY = ec.generate_private_key(ec.SECP256R1())
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture
async def server_store(open_store):
    store = open_store(None)
    rbac = RbacAuthorizer(store)
    store.admission = plugins(rbac, Chain([Masters(), rbac]))
    DefaultAccounts(store)
    await create_policy(store)
    await store.create("namespaces", {"metadata": {"name": "default"}})
    return store


async def create(store, pod, **spec):
    obj = pod(spec.pop("name", "web"))
    resources = spec.pop("resources", None)
    if resources:
        obj["spec"]["containers"][0]["resources"] = resources
    obj["spec"].update(spec)
    return await store.create("pods", obj, namespace="default")


async def test_pods_get_an_account_its_token_and_its_pull_secrets(server_store, pod):
    made = (await create(server_store, pod))["spec"]
    volume = made["volumes"][0]
    assert volume["name"].startswith("kube-api-access-")
    assert [next(iter(s)) for s in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
    assert made["containers"][0]["volumeMounts"] == [mount]

    account = {
        "metadata": {"name": "quiet"},
        "automountServiceAccountToken": False,
        "imagePullSecrets": [{"name": "p"}],
    }
    await server_store.create("serviceaccounts", account, namespace="default")
    quiet = (await create(server_store, pod, name="q", serviceAccountName="quiet"))["spec"]
    assert "volumes" not in quiet
    assert quiet["imagePullSecrets"] == [{"name": "p"}]
    loud = await create(server_store, pod, name="l", serviceAccountName="quiet", automountServiceAccountToken=True)
    assert len(loud["spec"]["volumes"]) == 1
    with pytest.raises(Forbidden) as refused:
        await create(server_store, pod, name="n", serviceAccountName="none")
    assert refused.value.message == (
        'pods "n" is forbidden: error looking up service account default/none: serviceaccount "none" not found'
    )


async def test_priorities(server_store, pod):
    assert (await create(server_store, pod))["spec"]["priority"] == 0
    critical = (await create(server_store, pod, name="c", priorityClassName="system-node-critical"))["spec"]
    assert (critical["priority"], critical["preemptionPolicy"]) == (2000001000, "PreemptLowerPriority")
    with pytest.raises(Forbidden, match="no PriorityClass with name urgent was found"):
        await create(server_store, pod, name="u", priorityClassName="urgent")
    with pytest.raises(Forbidden, match=r"the integer value of priority \(5\) must not be provided"):
        await create(server_store, pod, name="p", priority=5)
    low = {"metadata": {"name": "low"}, "value": 7, "globalDefault": True, "preemptionPolicy": "Never"}
    await server_store.create("priorityclasses.scheduling.k8s.io", low)
    spec = (await create(server_store, pod, name="d"))["spec"]
    assert (spec["priority"], spec["priorityClassName"], spec["preemptionPolicy"]) == (7, "low", "Never")


async def test_limit_ranges(server_store, pod):
    item = {"type": "Container", "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}
    limits = {"metadata": {"name": "l"}, "spec": {"limits": [{**item, "min": {"cpu": "50m"}}]}}
    await server_store.create("limitranges", limits, namespace="default")
    made = await create(server_store, pod)
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container main; cpu limit for container main"
    )
    assert made["status"]["qosClass"] == "Burstable"
    with pytest.raises(Forbidden) as refused:
        await create(server_store, pod, name="big", resources={"requests": {"cpu": "20m"}, "limits": {"cpu": "2"}})
    assert refused.value.message == (
        'pods "big" is forbidden: [minimum cpu usage per Container is 50m, but request is 20m, '
        "maximum cpu usage per Container is 1, but limit is 2]"
    )


async def test_quotas_count_and_sum(server_store, pod):
    hard = {"pods": "2", "requests.memory": "1Gi", "count/configmaps": "1"}
    quota = {"metadata": {"name": "q"}, "spec": {"hard": hard}}
    await server_store.create("resourcequotas", quota, namespace="default")
    with pytest.raises(Forbidden, match=r"failed quota: q: must specify requests.memory for: main"):
        await create(server_store, pod)
    half = {"resources": {"requests": {"memory": "512Mi"}}}
    await create(server_store, pod, name="a", **half)
    with pytest.raises(Forbidden) as refused:
        await create(server_store, pod, name="b", resources={"requests": {"memory": "768Mi"}})
    assert refused.value.message == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.memory=768Mi, used: requests.memory=512Mi, '
        "limited: requests.memory=1Gi"
    )
    await create(server_store, pod, name="b", **half)
    with pytest.raises(Forbidden, match=r"requested: pods=1,requests.memory=512Mi, used: pods=2,requests.memory=1Gi"):
        await create(server_store, pod, name="c", **half)
    await server_store.patch("pods", "a", {"status": {"phase": "Succeeded"}}, namespace="default", subresource="status")
    await create(server_store, pod, name="c", **half)
    await server_store.create("configmaps", {"metadata": {"name": "one"}}, namespace="default")
    with pytest.raises(Forbidden, match="exceeded quota: q, requested: count/configmaps=1"):
        await server_store.create("configmaps", {"metadata": {"name": "two"}}, namespace="default")
    await server_store.patch("configmaps", "one", {"data": {"a": "b"}}, namespace="default")


async def test_pod_security_refuses_and_warns(server_store, pod):
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}
    await server_store.patch("namespaces", "default", {"metadata": {"labels": labels}})
    with pytest.raises(Forbidden) as refused:
        await create(server_store, pod, hostNetwork=True, volumes=[{"name": "h", "hostPath": {"path": "/"}}])
    assert refused.value.message == (
        'pods "web" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true), '
        'hostPath volumes (volume "h")'
    )
    heard: list[str] = []
    reset = WARNINGS.set(heard)
    await create(server_store, pod)
    WARNINGS.reset(reset)
    assert heard == [
        'would violate PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "main" must set '
        'securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "main" must set '
        'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "main" must set '
        'securityContext.runAsNonRoot=true), seccompProfile (pod or container "main" must set '
        'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
    ]


async def test_kubelets_write_their_own(server_store, pod):
    node = {"metadata": {"name": "n1"}, "spec": {}}
    await create(server_store, pod)
    status = {"status": {"phase": "Running"}}
    reset = REQUESTER.set(User("system:node:n2", ("system:nodes", "system:authenticated")))
    try:
        with pytest.raises(Forbidden, match='node "n2" is not allowed to create node "n1"'):
            await server_store.create("nodes", node)
        with pytest.raises(Forbidden, match="can only create mirror pods"):
            await create(server_store, pod, name="p")
        with pytest.raises(Forbidden, match=r"can only update pods with spec.nodeName set to itself"):
            await server_store.patch("pods", "web", status, namespace="default", subresource="status")
    finally:
        REQUESTER.reset(reset)


async def test_storage_classes(server_store):
    await server_store.create(
        "storageclasses.storage.k8s.io",
        {
            "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "x",
        },
    )
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = await server_store.create(
        "persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec}, namespace="default"
    )
    assert claim["spec"]["storageClassName"] == "fast"


async def test_no_certificate_makes_a_master(server_store):
    def request(name, signer, *groups):
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups])
        signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KEY, hashes.SHA256())
        text = base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()
        spec = {"request": text, "signerName": signer, "usages": ["client auth"]}
        return {"metadata": {"name": name}, "spec": spec}

    requests, signer = "certificatesigningrequests.certificates.k8s.io", "kubernetes.io/kube-apiserver-client"
    await server_store.create(requests, request("ann", signer, "devs"))
    await server_store.create(requests, request("others", "example.com/mine", "system:masters"))
    with pytest.raises(Forbidden) as refused:
        await server_store.create(requests, request("eve", signer, "devs", "system:masters"))
    why = f"use of {signer} signer with system:masters group is not allowed"
    assert refused.value.message == f'{requests} "eve" is forbidden: {why}'


async def test_evictions_ask_the_budget(server_store, pod):
    for name in ("a", "b"):
        obj = pod(name, labels={"app": "x"})
        await server_store.create("pods", obj, namespace="default")
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await server_store.patch("pods", name, {"status": ready}, namespace="default", subresource="status")
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    await server_store.create(BUDGETS, {"metadata": {"name": "p"}, "spec": spec}, namespace="default")
    with pytest.raises(TooManyRequests) as busy:
        await evict(server_store, "default", "a")
    assert "still being processed" in busy.value.causes[0].message
    status = {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1}
    await server_store.patch(BUDGETS, "p", {"status": status}, namespace="default", subresource="status")
    await evict(server_store, "default", "a")
    assert server_store.peek("pods", "a", namespace="default") is None
    left = server_store.peek(BUDGETS, "p", namespace="default")["status"]
    assert left["disruptionsAllowed"] == 0
    assert "a" in left["disruptedPods"]
    with pytest.raises(TooManyRequests) as refused:
        await evict(server_store, "default", "b")
    assert refused.value.status()["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.value.causes[0].message == "The disruption budget p needs 1 healthy pods and has 2 currently"

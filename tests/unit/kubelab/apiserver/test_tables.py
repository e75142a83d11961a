"""Tables as kubectl prints them."""

import pytest

from kubelab.apiserver.printers.columns import duration
from kubelab.apiserver.printers.core import pod_status
from kubelab.apiserver.tables import Tables


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
        (4000 * 86400, "10y"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        ({"status": {"phase": "Pending"}}, "Pending"),
        (
            {
                "spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]},
                "status": {
                    "phase": "Running",
                    "initContainerStatuses": [{"name": "s", "started": True, "state": {"running": {}}}],
                },
            },
            "Running",  # a sidecar that has started holds up nobody
        ),
        (
            {
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
                }
            },
            "CrashLoopBackOff",
        ),
        (
            {"status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}},
            "ExitCode:3",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "containerStatuses": [{"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}],
                }
            },
            "Error",
        ),
        (
            {
                "spec": {"initContainers": [{}, {}]},
                "status": {"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}]},
            },
            "Init:0/2",
        ),
        ({"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}}, "Terminating"),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, "Evicted"),
    ],
)
def test_the_status_of_a_pod_is_its_most_telling_word(pod, word):
    assert pod_status({"metadata": {}, "spec": {}, **pod}) == word


async def test_every_resource_prints(store):
    """Every column of every kind copes with an object that has nothing but a name."""
    tables = Tables()
    for resource in store.registry:
        bare = {"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}}
        table = tables.render([bare], resource=resource.key, version="v1", metadata={})
        assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"]), resource.key


def test_printer_columns_of_a_crd():
    tables = Tables()
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Since", "type": "date", "jsonPath": ".status.since", "priority": 1},
    ]
    tables.set_custom("widgets.demo.io", "v1", columns)
    obj = {
        "metadata": {"name": "w"},
        "spec": {"size": 3},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    table = tables.render([obj, {"metadata": {"name": "v"}}], resource="widgets.demo.io", version="v1", metadata={})
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Size", "Ready", "Since"]
    assert [row["cells"] for row in table["rows"]] == [["w", 3, "True", None], ["v", None, "<none>", None]]


def test_targets_of_an_autoscaler():
    def resource(name, target, current=None):
        spec = {"type": "Resource", "resource": {"name": name, "target": target}}
        return spec, {"type": "Resource", "resource": {"name": name, "current": current}} if current else {"type": ""}

    def external(target, current):
        return {"type": "External", "external": {"target": target}}, {
            "type": "External",
            "external": {"current": current},
        }

    def shown(*pairs):
        spec = {
            "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "maxReplicas": 3,
            "metrics": [s for s, _ in pairs],
        }
        obj = {"metadata": {"name": "h"}, "spec": spec, "status": {"currentMetrics": [status for _, status in pairs]}}
        key = "horizontalpodautoscalers.autoscaling"
        table = Tables().render([obj], resource=key, version="v2", metadata={})
        assert table["rows"][0]["cells"][:2] == ["h", "Deployment/d"]
        return table["rows"][0]["cells"][2]

    half = {"averageUtilization": 50}
    assert shown() == "<none>"
    assert shown(resource("cpu", half)) == "cpu: <unknown>/50%"
    known = resource("cpu", half, {"averageUtilization": 7, "averageValue": "7m"})
    assert (
        shown(known, resource("memory", {"averageValue": "1Mi"}, {"averageValue": "9"})) == "cpu: 7%/50%, memory: 9/1Mi"
    )
    assert shown(external({"value": "3"}, {"value": "2"}), external({"averageValue": "3"}, {"averageValue": "1"})) == (
        "2/3, 1/3 (avg)"
    )
    assert shown(known, known, known, known) == "cpu: 7%/50%, cpu: 7%/50% + 2 more..."


def test_quotas_show_what_is_used():
    hard, used = {"pods": "2", "limits.cpu": "4", "requests.cpu": "1"}, {"pods": "1", "limits.cpu": "500m"}
    obj = {"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}}
    table = Tables().render([obj], resource="resourcequotas", version="v1", metadata={})
    assert table["rows"][0]["cells"][:3] == ["q", "pods: 1/2, requests.cpu: 0/1", "limits.cpu: 500m/4"]

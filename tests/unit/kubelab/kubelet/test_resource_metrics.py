"""A Summary as Prometheus reads it: by its own client library."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kubelab.kubelet import resource_metrics

USED = {"cpu": {"usageCoreNanoSeconds": 1_500_000_000}, "memory": {"workingSetBytes": 4096}}


def test_prometheus_reads_what_was_used() -> None:
    pod = {"podRef": {"namespace": "a", "name": "p"}, "containers": [{"name": "c", **USED}], **USED}
    families = list(text_string_to_metric_families(resource_metrics.text({"node": USED, "pods": [pod]})))
    found = {sample.name: (sample.labels, sample.value) for family in families for sample in family.samples}
    inside = {"namespace": "a", "pod": "p"}
    assert found["container_cpu_usage_seconds_total"] == ({"container": "c", **inside}, 1.5)
    assert found["pod_memory_working_set_bytes"] == (inside, 4096)
    assert found["node_cpu_usage_seconds_total"] == ({}, 1.5)
    assert found["resource_scrape_error"] == ({}, 0)

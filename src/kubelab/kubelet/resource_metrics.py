"""``/metrics/resource``: what a node, its pods and containers have used, for Prometheus.

In: a Summary. Out: the text, in Prometheus' exposition format. Names and labels are a kubelet's.
Source: Kubernetes documentation "Node metrics data".
"""

from __future__ import annotations

from collections.abc import Iterable

from kubelab.kubelet.config import Object

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_Row = tuple[dict[str, str], float | int]
_NANOSECONDS = 1e9


def text(summary: Object) -> str:
    pods = [({"namespace": p["podRef"]["namespace"], "pod": p["podRef"]["name"]}, p) for p in summary["pods"]]
    every = [({"container": one["name"], **labels}, one) for labels, pod in pods for one in pod["containers"]]
    node: list[tuple[dict[str, str], Object]] = [({}, summary["node"])]
    families = [
        *_family("container_cpu_usage_seconds_total", "counter", "CPU time of the container", map(_cpu, every)),
        *_family("container_memory_working_set_bytes", "gauge", "Memory of the container", map(_memory, every)),
        *_family("node_cpu_usage_seconds_total", "counter", "CPU time of the node", map(_cpu, node)),
        *_family("node_memory_working_set_bytes", "gauge", "Memory of the node", map(_memory, node)),
        *_family("pod_cpu_usage_seconds_total", "counter", "CPU time of the pod", map(_cpu, pods)),
        *_family("pod_memory_working_set_bytes", "gauge", "Memory of the pod", map(_memory, pods)),
        *_family("resource_scrape_error", "gauge", "1 if something could not be measured", [({}, 0)]),
    ]
    return "\n".join(families) + "\n"


def _cpu(measured: tuple[dict[str, str], Object]) -> _Row:
    return measured[0], measured[1]["cpu"]["usageCoreNanoSeconds"] / _NANOSECONDS


def _memory(measured: tuple[dict[str, str], Object]) -> _Row:
    return measured[0], measured[1]["memory"]["workingSetBytes"]


def _family(name: str, kind: str, help_text: str, rows: Iterable[_Row]) -> Iterable[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        shown = ",".join(f'{label}="{text}"' for label, text in labels.items())
        yield f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"

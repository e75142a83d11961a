"""From a pod's labels to its security labels.

Labels that differ from pod to pod of one workload, or that only Kubernetes itself reads, would give every pod an
identity of its own; the default filters leave them out (the same ones as upstream's). The `labels` setting adds
filters: words `[!]pattern`, a pattern is a regular expression matched at the start of the key; once there is a
pattern without `!`, only keys that match such a pattern remain.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cilium.tables.kubernetes import Namespace, Pod
from cilium.tables.labels import CLUSTER, NAMESPACE, NAMESPACE_LABELS, SERVICE_ACCOUNT
from cilium.tables.types import Labels

_DEFAULT_INCLUDES = (
    r"reserved:.*",
    r"io\.kubernetes\.pod\.namespace",
    r"io\.cilium\.k8s\.namespace\.labels",
    r"io\.cilium\.k8s\.policy\.",
    r"app\.kubernetes\.io",
)
_DEFAULT_EXCLUDES = (
    r"io\.kubernetes",
    r"kubernetes\.io",
    r"statefulset\.kubernetes\.io/pod-name",
    r"apps\.kubernetes\.io/pod-index",
    r"batch\.kubernetes\.io/",
    r"controller-uid",
    r".*beta\.kubernetes\.io",
    r"k8s\.io",
    r"pod-template-generation",
    r"pod-template-hash",
    r"controller-revision-hash",
    r"annotation\.",
    r"etcd_node",
)


class LabelFilter:
    """Decides which label keys make an identity."""

    def __init__(self, spec: str = "") -> None:
        """Raises ValueError naming a pattern that is no regular expression."""
        words = [word.removeprefix("k8s:") for word in spec.replace(",", " ").split()]
        includes = [word for word in words if not word.startswith("!")]
        excludes = [word[1:].removeprefix("k8s:") for word in words if word.startswith("!")]
        self._always = _compile(_DEFAULT_INCLUDES)
        self._never = _compile((*_DEFAULT_EXCLUDES, *excludes))
        self._only = _compile(includes) if includes else None

    def keeps(self, key: str) -> bool:
        if self._always.match(key):
            return True
        if self._never.match(key):
            return False
        return self._only is None or self._only.match(key) is not None


def _compile(patterns: tuple[str, ...] | list[str]) -> re.Pattern[str]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"labels: {pattern!r} is not a regular expression: {error}") from None
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def security_labels(pod: Pod, namespace: Namespace, *, cluster: str, labels: LabelFilter) -> Labels:
    """The sorted security labels of a pod."""
    plain: dict[str, str] = dict(pod.labels)
    plain |= {NAMESPACE_LABELS + key: value for key, value in namespace.labels.items()}
    plain |= {NAMESPACE: pod.namespace, SERVICE_ACCOUNT: pod.service_account or "default", CLUSTER: cluster}
    return tuple(sorted(f"k8s:{key}={value}" for key, value in plain.items() if labels.keeps(key)))


def to_map(labels: Labels) -> Mapping[str, str]:
    """The `security-labels` of a CiliumIdentity."""
    return dict(label.partition("=")[::2] for label in labels)

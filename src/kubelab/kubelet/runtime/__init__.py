"""The seam between the kubelet and what runs its containers: ``contract``; ``make`` picks an implementation."""

from __future__ import annotations

from kubelab.kubelet.config import KubeletConfig
from kubelab.kubelet.inotify import Inotify
from kubelab.kubelet.runtime.contract import Runtime


def make(config: KubeletConfig, inotify: Inotify) -> Runtime:
    """The runtime that the configuration names. Raises ValueError."""
    if config.runtime == "process":
        from kubelab.kubelet.runtime.process.runtime import ProcessRuntime

        return ProcessRuntime(config, inotify)
    if config.runtime == "containerd":
        from kubelab.kubelet.runtime.containerd.split import SplitRuntime

        return SplitRuntime(config, inotify)
    raise ValueError(f"runtime: {config.runtime!r}: the kubelet knows process and containerd")

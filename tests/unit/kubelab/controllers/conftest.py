"""Fixtures of the controllers' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from unit.kubelab.controllers.cluster import Cluster

from kubelab.controllers.nodes.node_ipam import ClusterCIDR


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    await cluster.store.create("namespaces", {"metadata": {"name": "default"}})
    await cluster.settle()
    yield cluster
    for controller in cluster.manager.controllers:
        controller.queue.close()


@pytest.fixture
async def dual_stack() -> AsyncIterator[Cluster]:
    cidrs = (ClusterCIDR(ip_network("10.244.0.0/22"), 24), ClusterCIDR(ip_network("fd00:10::/118"), 120))
    cluster = Cluster(cidrs, ca="PEM")
    await cluster.store.create("namespaces", {"metadata": {"name": "default"}})
    await cluster.settle()
    yield cluster
    for controller in cluster.manager.controllers:
        controller.queue.close()

"""All controllers of the lab's control plane, in one place.

In: the store and options. Out: running controllers: `await ControllerManager(store, options).run()`, until cancelled.
Commits reach controllers synchronously; whoever has nothing to do sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change
from kubelab.controllers.autoscaling.evaluate import ResourceMetrics
from kubelab.controllers.autoscaling.horizontal import HorizontalController
from kubelab.controllers.batch.cron_jobs import CronJobController
from kubelab.controllers.batch.jobs import JobController
from kubelab.controllers.controller import Controller
from kubelab.controllers.index import PodIndex
from kubelab.controllers.network.endpoint_slices import EndpointSliceController
from kubelab.controllers.network.endpoints import EndpointsController
from kubelab.controllers.network.mirroring import MirroringController
from kubelab.controllers.nodes.evictions import EvictionController
from kubelab.controllers.nodes.life import NodeController
from kubelab.controllers.nodes.node_ipam import ClusterCIDR, NodeIpamController
from kubelab.controllers.scheduling.scheduler import Scheduler
from kubelab.controllers.storage import matching
from kubelab.controllers.storage.binder import VolumeController
from kubelab.controllers.storage.protection import EphemeralVolumeController, ProtectionController
from kubelab.controllers.storage.provisioner import Provisioner
from kubelab.controllers.upkeep.api_services import ApiServiceController
from kubelab.controllers.upkeep.certificate_requests import CertificateRequestController, Sign
from kubelab.controllers.upkeep.cluster_roles import ClusterRoleAggregationController
from kubelab.controllers.upkeep.event_expiry import EventExpiryController
from kubelab.controllers.upkeep.garbage import GarbageCollector
from kubelab.controllers.upkeep.namespaces import NamespaceController
from kubelab.controllers.upkeep.resource_quotas import ResourceQuotaController
from kubelab.controllers.upkeep.service_accounts import ServiceAccountController
from kubelab.controllers.upkeep.token_secrets import Issue, TokenSecretController
from kubelab.controllers.workloads.daemon_sets import DaemonSetController
from kubelab.controllers.workloads.deployments import DeploymentController
from kubelab.controllers.workloads.disruption_budgets import DisruptionController
from kubelab.controllers.workloads.replica_sets import ReplicaSetController, ReplicationControllerController
from kubelab.controllers.workloads.stateful_sets import StatefulSetController


@dataclass(frozen=True, kw_only=True)
class ControllerOptions:
    """What differs between clusters."""

    cluster_cidrs: tuple[ClusterCIDR, ...] = ()
    """Pods' CIDRs for Node.spec.podCIDRs, one per family, the primary first; none: nodes get no pod CIDRs."""
    node_grace: float = 100.0
    """Seconds without a sign of life after which a node is not ready."""
    job_backoff: float = 10.0
    """Seconds between the first failure of a Job's pod and its successor; doubled with each further failure."""
    provisioner: Provisioner | None = None
    """Makes volumes for the StorageClass `standard`; none: there is no such class."""
    ca: str = ""
    """PEM text of the API server's CA, published in every namespace."""
    sign: Sign | None = None
    """Signs with that CA what CertificateSigningRequests ask for; none: they stay without certificates."""
    metrics: ResourceMetrics | None = None
    """Who knows what pods use; none: HorizontalPodAutoscalers do nothing."""
    autoscaler_period: float = 15.0
    """Seconds between two looks at a HorizontalPodAutoscaler."""
    issue_token: Issue | None = None
    """Makes the tokens of Secrets that ask for one; none: these Secrets stay empty."""


class ControllerManager:
    """Construct it before the server accepts writes: it sees every commit from then on."""

    def __init__(
        self,
        store: Store,
        options: ControllerOptions,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._options = store, options
        pods = PodIndex(store)
        store.on_commit(pods.observe)
        self.controllers: tuple[Controller, ...] = (
            NamespaceController(store, pods=pods, now=now),
            ServiceAccountController(store, pods=pods, now=now, ca=options.ca),
            *(
                [TokenSecretController(store, pods=pods, now=now, issue=options.issue_token, ca=options.ca)]
                if options.issue_token
                else []
            ),
            *([CertificateRequestController(store, pods=pods, now=now, sign=options.sign)] if options.sign else []),
            ClusterRoleAggregationController(store, pods=pods, now=now),
            ApiServiceController(store, pods=pods, now=now),
            ResourceQuotaController(store, pods=pods, now=now),
            NodeController(store, pods=pods, now=now, clock=clock, grace=options.node_grace),
            *(
                [NodeIpamController(store, pods=pods, now=now, cidrs=options.cluster_cidrs)]
                if options.cluster_cidrs
                else []
            ),
            DeploymentController(store, pods=pods, now=now),
            ReplicaSetController(store, pods=pods, now=now),
            ReplicationControllerController(store, pods=pods, now=now),
            StatefulSetController(store, pods=pods, now=now),
            DaemonSetController(store, pods=pods, now=now),
            DisruptionController(store, pods=pods, now=now),
            JobController(store, pods=pods, now=now, first_backoff=options.job_backoff),
            CronJobController(store, pods=pods, now=now),
            VolumeController(store, pods=pods, now=now, provisioner=options.provisioner),
            ProtectionController(store, pods=pods, now=now),
            EphemeralVolumeController(store, pods=pods, now=now),
            *(
                [
                    HorizontalController(
                        store, pods=pods, now=now, metrics=options.metrics, period=options.autoscaler_period
                    )
                ]
                if options.metrics
                else []
            ),
            Scheduler(store, pods=pods, now=now),
            EvictionController(store, pods=pods, now=now),
            EndpointSliceController(store, pods=pods, now=now),
            EndpointsController(store, pods=pods, now=now),
            MirroringController(store, pods=pods, now=now),
            GarbageCollector(store, pods=pods, now=now),
            EventExpiryController(store, pods=pods, now=now),
        )
        self._stopped = False
        store.on_commit(self._observe)

    def _observe(self, resource: Resource, change: Change) -> None:
        if not self._stopped:
            for controller in self.controllers:
                controller.observe(resource, change)

    def resync(self) -> None:
        """Let every controller look at everything that is there."""
        for controller in self.controllers:
            controller.resync()

    def stop(self) -> None:
        """Take no notice of commits any more, for good."""
        self._stopped = True
        for controller in self.controllers:
            controller.queue.close()

    async def run(self) -> None:
        """Look at everything, then work until cancelled."""
        await self.provide()
        self.resync()
        try:
            async with asyncio.TaskGroup() as tasks:
                for controller in self.controllers:
                    tasks.create_task(controller.run(), name=controller.name)
        finally:
            self.stop()

    async def provide(self) -> None:
        """What the cluster offers from the start: the default StorageClass, unless there is one of its name."""
        if self._options.provisioner is not None:
            wanted = self._options.provisioner.storage_class()
            if self._store.peek(matching.CLASSES, wanted["metadata"]["name"]) is None:
                await self._store.create(matching.CLASSES, wanted)

    async def settle(self, *, rounds: int = 1000) -> None:
        """Work until no controller has anything to do now (tests). Raises RuntimeError if they never agree."""
        for _ in range(rounds):
            if all(controller.queue.idle for controller in self.controllers):
                return
            for controller in self.controllers:
                await controller.drain()
        raise RuntimeError("the controllers keep undoing each other's work")

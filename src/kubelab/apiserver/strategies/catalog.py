"""Which strategy serves which resource."""

from kubelab.apiserver.cel.rules import validator
from kubelab.apiserver.resources import Resource
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.strategies import (
    autoscaling,
    batch,
    certificates,
    cluster,
    configuration,
    networking,
    rbac,
    storage,
    workloads,
)
from kubelab.apiserver.strategies.admission import STRATEGIES as ADMISSION
from kubelab.apiserver.strategies.base import Strategy
from kubelab.apiserver.strategies.common import NamedStrategy
from kubelab.apiserver.strategies.custom import CustomStrategy
from kubelab.apiserver.strategies.definitions import CRDS, DefinitionStrategy
from kubelab.apiserver.strategies.pods import DEFAULT_TOLERATION_SECONDS, PodStrategy
from kubelab.apiserver.strategies.services import SERVICE_RANGES, ServiceRanges, ServiceStrategy
from kubelab.apiserver.strategies.stored import STRATEGIES as STORED

_BUILTIN: dict[str, type[NamedStrategy]] = {
    "namespaces": cluster.NamespaceStrategy,
    "nodes": cluster.NodeStrategy,
    "pods": PodStrategy,
    "services": ServiceStrategy,
    "configmaps": configuration.ConfigMapStrategy,
    "secrets": configuration.SecretStrategy,
    "limitranges": cluster.LimitRangeStrategy,
    "roles.rbac.authorization.k8s.io": rbac.RoleStrategy,
    "clusterroles.rbac.authorization.k8s.io": rbac.ClusterRoleStrategy,
    "rolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "clusterrolebindings.rbac.authorization.k8s.io": rbac.BindingStrategy,
    "deployments.apps": workloads.DeploymentStrategy,
    "replicasets.apps": workloads.WorkloadStrategy,
    "daemonsets.apps": workloads.DaemonSetStrategy,
    "statefulsets.apps": workloads.StatefulSetStrategy,
    "replicationcontrollers": workloads.ReplicationControllerStrategy,
    "jobs.batch": batch.JobStrategy,
    "cronjobs.batch": batch.CronJobStrategy,
    "horizontalpodautoscalers.autoscaling": autoscaling.AutoscalerStrategy,
    "certificatesigningrequests.certificates.k8s.io": certificates.CertificateRequestStrategy,
    "persistentvolumeclaims": storage.ClaimStrategy,
    "persistentvolumes": storage.VolumeStrategy,
    storage.CLASSES: storage.StorageClassStrategy,
    "poddisruptionbudgets.policy": storage.DisruptionBudgetStrategy,
    "endpointslices.discovery.k8s.io": networking.EndpointSliceStrategy,
    "networkpolicies.networking.k8s.io": networking.NetworkPolicyStrategy,
    "ingresses.networking.k8s.io": networking.IngressStrategy,
    CRDS: DefinitionStrategy,
    **ADMISSION,
    **STORED,
}


class StrategyCatalog:
    """The strategy of a custom resource is made anew when its definition has changed."""

    def __init__(
        self,
        schemas: Schemas,
        service_ranges: ServiceRanges = SERVICE_RANGES,
        default_toleration_seconds: int = DEFAULT_TOLERATION_SECONDS,
    ) -> None:
        self._schemas, self._service_ranges = schemas, service_ranges
        self._toleration_seconds = default_toleration_seconds
        self._known: dict[str, Strategy] = {}

    def __call__(self, resource: Resource) -> Strategy:
        if resource.custom:
            return self._custom(resource)
        strategy = self._known.get(resource.key)
        if strategy is None:
            node = self._schemas.node(resource.group, resource.storage_version, resource.kind)
            strategy = self._known[resource.key] = _BUILTIN.get(resource.key, NamedStrategy)(resource, node)
            if isinstance(strategy, ServiceStrategy):
                strategy.ranges = self._service_ranges
            if isinstance(strategy, PodStrategy):
                strategy.toleration_seconds = self._toleration_seconds
        return strategy

    def _custom(self, resource: Resource) -> Strategy:
        node = self._schemas.node(resource.group, resource.storage_version, resource.kind)
        known = self._known.get(resource.key)
        if known is not None and known.node is node and known.resource is resource:
            return known
        made = CustomStrategy(resource, node)
        made.rules = validator(node) if node is not None else None
        self._known[resource.key] = made
        return made

"""References of policies to other objects: Services, CIDR groups.

In: entries of `toServices` and `fromCIDRSet`. Out: `ServicePeer`s and `CIDRGroupPeer`s; whom they mean is found out
where those objects are known.
"""

from __future__ import annotations

from cilium.sources.kubernetes.policies.cidrs import network
from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.selectors import requirements
from cilium.sources.kubernetes.policies.wire import CIDRRule, ServiceRule
from cilium.tables.rules import CIDRGroupPeer, Selector, ServicePeer


def service_peer(entry: ServiceRule, path: str) -> ServicePeer:
    """A namespace that is not given means every namespace, as upstream has it. Raises PolicyError."""
    if (entry.k8sService is None) == (entry.k8sServiceSelector is None):
        raise PolicyError(path, "needs exactly one of k8sService and k8sServiceSelector")
    if entry.k8sService is not None:
        if not entry.k8sService.serviceName:
            raise PolicyError(f"{path}.k8sService.serviceName", "is missing")
        return ServicePeer(entry.k8sService.namespace, entry.k8sService.serviceName, path=path)
    given = entry.k8sServiceSelector
    assert given is not None  # one of the two is there
    terms = requirements(given.selector, f"{path}.k8sServiceSelector.selector", source="any")
    return ServicePeer(given.namespace, selector=Selector(terms), path=path)


def group_peer(entry: CIDRRule, path: str) -> CIDRGroupPeer:
    """An `except` takes its addresses out of every CIDR of the groups. Raises PolicyError."""
    holes = tuple(network(text, f"{path}.except[{index}]") for index, text in enumerate(entry.except_ or ()))
    if entry.cidrGroupSelector is not None:
        terms = requirements(entry.cidrGroupSelector, f"{path}.cidrGroupSelector", source="any")
        return CIDRGroupPeer(selector=Selector(terms), excepts=holes, path=path)
    if not entry.cidrGroupRef:
        raise PolicyError(f"{path}.cidrGroupRef", "is empty")
    return CIDRGroupPeer(entry.cidrGroupRef, excepts=holes, path=path)

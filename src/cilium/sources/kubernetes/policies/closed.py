"""What stands for a policy that cannot be read, where nobody knows what it said when it could.

In: the object. Out: rules that allow nothing to whom it selects. Which traffic it closed is unknown, so it is all;
if not even its selector can be read, it is everyone whom an object of its kind can select.
"""

from __future__ import annotations

import msgspec

from cilium.sources.kubernetes.policies.errors import PolicyError
from cilium.sources.kubernetes.policies.selectors import LabelSelector, in_namespace, requirements
from cilium.tables.rules import PolicyObject, Requirement, Rule, Selector

NOTHING = b"null"
ABSENT = msgspec.Raw(NOTHING)


class _Spec(msgspec.Struct, frozen=True):
    endpointSelector: LabelSelector | None = None  # noqa: N815 - the API's name
    podSelector: LabelSelector | None = None  # noqa: N815
    nodeSelector: msgspec.Raw = ABSENT  # noqa: N815


class _Object(msgspec.Struct, frozen=True):
    spec: msgspec.Raw = ABSENT
    specs: list[msgspec.Raw] | None = None


def closed(policy: PolicyObject, raw: bytes | msgspec.Raw) -> tuple[Rule, ...]:
    """One rule per spec. Rules about nodes close nothing: a node without its API server could not be told better. Nor
    does a ClusterNetworkPolicy: it would be everything, also for what other tiers allow."""
    if policy.kind == "ClusterNetworkPolicy":
        return ()
    try:
        found = msgspec.json.decode(raw, type=_Object)
    except msgspec.DecodeError:
        return (_rule(policy, ()),)
    specs = [*([] if _absent(found.spec) else [found.spec]), *(found.specs or ())]
    return tuple(rule for spec in specs if (rule := _of(policy, spec)) is not None)


def _of(policy: PolicyObject, spec: msgspec.Raw) -> Rule | None:
    try:
        read = msgspec.json.decode(spec, type=_Spec)
        if not _absent(read.nodeSelector):
            return None
        if read.endpointSelector is not None:
            return _rule(policy, requirements(read.endpointSelector, "spec.endpointSelector", source="any"))
        if read.podSelector is not None:
            return _rule(policy, requirements(read.podSelector, "spec.podSelector", source="k8s"))
    except (PolicyError, msgspec.DecodeError):
        pass
    return _rule(policy, ())


def _rule(policy: PolicyObject, terms: tuple[Requirement, ...]) -> Rule:
    own = (in_namespace(policy.namespace),) if policy.namespace else ()
    return Rule(subject=Selector((*terms, *own)), default_deny_ingress=True, default_deny_egress=True)


def _absent(value: msgspec.Raw) -> bool:
    return bytes(value) == NOTHING

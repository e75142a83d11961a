"""Network policies of Kubernetes and Cilium become rules here, with namespaces, entities and defaults resolved; the
CIDR groups they refer to and local redirect policies become rows of theirs.

In: API objects as JSON. Out: `PolicyObject`s and `CIDRGroup`s of `cilium.tables.rules`, `RedirectPolicy`s of
`cilium.tables.redirects`; bad content is an error in the row.
"""

from cilium.sources.kubernetes.policies.cidr_group import decode_cidr_group, merge_group
from cilium.sources.kubernetes.policies.cilium import PLAIN, decode_ccnp, decode_cnp
from cilium.sources.kubernetes.policies.cluster_network_policy import decode_cluster_network_policy
from cilium.sources.kubernetes.policies.envelope import merge_generation
from cilium.sources.kubernetes.policies.last_valid import LastValid
from cilium.sources.kubernetes.policies.local_redirect import decode_local_redirect, merge_redirect
from cilium.sources.kubernetes.policies.network_policy import decode_knp
from cilium.sources.kubernetes.policies.report import with_report

__all__ = [
    "PLAIN",
    "LastValid",
    "decode_ccnp",
    "decode_cidr_group",
    "decode_cluster_network_policy",
    "decode_cnp",
    "decode_knp",
    "decode_local_redirect",
    "merge_generation",
    "merge_group",
    "merge_redirect",
    "with_report",
]

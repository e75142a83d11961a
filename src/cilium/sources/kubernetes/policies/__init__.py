"""Network policies of Kubernetes and Cilium become rules here, with namespaces, entities and defaults resolved.

In: API objects as JSON. Out: `PolicyObject`s of `cilium.tables.rules`; bad content is an error in the row.
"""

from cilium.sources.kubernetes.policies.cilium import decode_ccnp, decode_cnp
from cilium.sources.kubernetes.policies.envelope import merge_generation
from cilium.sources.kubernetes.policies.network_policy import decode_knp

__all__ = ["decode_ccnp", "decode_cnp", "decode_knp", "merge_generation"]

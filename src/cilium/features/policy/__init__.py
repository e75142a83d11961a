"""Network policy: which traffic the rules of the cluster let pass at the endpoints of this node.

In: `policies`, `identities`, `endpoint-identities`, `cilium-endpoints`. Out: the two policy maps, `endpoint-policies`,
`cidr-identities`, `rule-references`, `policy-status`.
"""

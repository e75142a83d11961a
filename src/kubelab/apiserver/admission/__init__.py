"""Admission: what happens to a write between its defaults and its commit.

    base              a write as plugins see it, the chain
    chain             the plugins of this server, in order
    service_account   every pod has an account that exists, and its token
    priority          priorityClassName becomes a number
    limit_ranger      defaults and bounds of a namespace's LimitRanges
    storage_class     claims without a class get the default one
    pod_security      Pod Security Standards by the labels of namespaces
    node_restriction  kubelets write their own node and their own pods
    policies          ValidatingAdmissionPolicies of users, by `conditions`: CEL expressions about a write
    resource_quota    counts and sums of a namespace
    webhooks          who is asked over the network, between the plugins that change and those that refuse

Namespaces that end, and the 300 seconds of patience that pods have with nodes that do not answer, are in the store and
in the strategy of pods: they need no plugin.
"""

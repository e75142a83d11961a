"""Who may do what: RBAC, the rights of kubelets, and the roles that every cluster has.

attributes    a request as an authorizer sees it, and the words of a refusal
rules         one policy rule: what it covers, how it is written
rbac          roles and bindings, indexed per user
node          what a kubelet may see: the pods of its node and what these refer to
chain         masters, then kubelets, then RBAC
escalation    nobody grants what they do not hold
aggregation   ClusterRoles made of others
roles         the bootstrap roles and bindings
"""

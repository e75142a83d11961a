"""What proves a cluster from outside: probes are run in its pods, and what came of them is judged.

It knows Kubernetes' API and Hubble's flows. `suite` has the tests that every cluster should pass (`cilium connectivity
test`), `policy_tests` holds a user's policies against a user's expectations (`cilium lab test`). Nothing here parses
arguments or prints.
"""

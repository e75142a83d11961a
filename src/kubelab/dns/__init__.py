"""The cluster's name server: a stand-in for CoreDNS that reads its Corefile.

Entry: `python -m kubelab.dns -conf FILE`. A Corefile becomes server blocks, a server block a chain of plugins, a query
an answer of the first plugin that has one. Messages, names and records are dnspython's. `wire` and `listeners` also
serve the world outside of the cluster (`kubelab.external`).
"""

VERSION = "1.12.1"
"""The release of CoreDNS whose behaviour is meant."""

"""What kube-proxy writes into the kernel, without kube-proxy: rule sets to compare with.

In: services with their endpoints. Out: a file for `iptables-restore` or for `nft -f`, one address family each, laid
out as kube-proxy 1.34 lays it out (names of chains, order of rules, comments, the large-cluster mode); loaded into a
namespace by `load`. Modelled: cluster IPs, node ports, external IPs, services without endpoints. Not modelled, because
nothing here asks for it: traffic policies `Local`, source ranges, session affinity, and the `nfacct` counters, which
kube-proxy leaves out itself where the kernel has none.
"""

"""Links, addresses, routes, rules, neighbours and sysctls of network namespaces. Modules: `netns` (where), `messages`
(requests as the kernel reads them), `port` (what features may ask), `devices` (the node's own devices), `endpoints`
(a pod's interface in one batch), `sysctl`."""

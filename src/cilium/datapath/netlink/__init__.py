"""Links, addresses, routes and sysctls of network namespaces. Modules: `netns` (where), `wire`,
`links` and `rows` (messages as the kernel reads them), `port` (what features may ask), `monitor` (what the kernel
announces), `devices` (the node's own devices), `endpoints` (a pod's interface in one batch), `sysctl`."""

"""The plugins that a Corefile may name, one module each; `kubelab.dns.chain` lists them in their order."""

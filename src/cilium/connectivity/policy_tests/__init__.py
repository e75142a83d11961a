"""The engine of `cilium lab test`: policies held against expectations, on the real kernel.

DIR ──► load: steps (manifests, expectations)                        what is written
          │
          ▼ applied one step after the other, with waits on conditions
        cluster: objects, what agents enforce             what is there
          │
          ▼ plan: places become addresses, expectations become probes
        rounds: probes in pods, flows of Hubble                      what happened
          │
          ▼ judge: answered, dropped by policy, or neither
        report, junit, record                                        what is said

`ground` is the port to the cluster it happens on.
"""

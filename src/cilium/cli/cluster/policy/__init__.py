"""cilium policy: what policies say, what a change of them would do, and policies written from traffic.

Gathers objects from the API server and flows from the agents; the thinking is features/policy's.
"""

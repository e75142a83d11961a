"""A kube-compatible API server in one asyncio process.

Owns: storage, admission, discovery and the HTTP surface of a small Kubernetes. Comes in: requests of any Kubernetes
client, or calls of in-process controllers on `store.Store`. Goes out: objects, tables, watch streams, Status errors.
Start reading at `server.py` (the composition) and `store.py` (what controllers call).
"""

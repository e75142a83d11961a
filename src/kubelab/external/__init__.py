"""The world outside a lab's cluster: web servers and a name server on addresses of their own.

Entry: `python -m kubelab.external`, run inside the lab's external namespace.
"""

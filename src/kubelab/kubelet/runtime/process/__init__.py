"""Containers as processes of the machine, in namespaces of their own, on an overlay of its root; no images."""

"""Kubernetes: list and watch into tables, parsing at the edge, writing back."""

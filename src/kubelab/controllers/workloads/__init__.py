"""Pods that serve for good: Deployments, ReplicaSets, StatefulSets, DaemonSets, and how many of them may be missing."""

"""Nodes: their pod CIDRs, their silence and return, and the pods that leave them."""

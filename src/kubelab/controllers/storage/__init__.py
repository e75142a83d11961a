"""Volumes: claims find or get one, and nobody loses one that is in use."""

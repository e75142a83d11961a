"""Byte streams that API server and kubelet share: upgraded connections, SPDY/3.1; nothing here knows of pods."""

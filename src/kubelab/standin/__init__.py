"""The process that stands in for a container whose command this machine does not have: `server.py`."""

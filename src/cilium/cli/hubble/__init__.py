"""The `hubble` command: asks a node's flow service and prints what it says."""

"""Containers of images, run by containerd and runc; spoken to over the Container Runtime Interface."""

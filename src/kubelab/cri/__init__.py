"""The Container Runtime Interface, and images as files: what stands between the lab and containerd."""

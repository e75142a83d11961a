"""The lab's ground: namespaces, the bridge between nodes, the world outside, cgroup trees."""

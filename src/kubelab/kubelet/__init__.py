"""The lab's kubelet: runs the pods assigned to its node as processes in namespaces made through the CNI plugin."""

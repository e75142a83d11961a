"""The columns of `kubectl get` for each built-in kind."""

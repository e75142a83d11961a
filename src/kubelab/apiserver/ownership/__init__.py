"""Who owns which field: what `metadata.managedFields` says, and server-side apply, which lives on it.

`sets` is the algebra of field sets, `values` walks objects by their schema, `managers` keeps the entries of an object,
`apply` merges an apply configuration. Source: Kubernetes documentation "Server-Side Apply"; the data model is that of
structured-merge-diff.
"""

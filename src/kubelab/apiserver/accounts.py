"""The ServiceAccount `default`, which every namespace has from its first moment.

Comes in: commits of namespaces. Goes out: accounts. Pods of a namespace without it would be refused, so it is made with
the namespace and not a moment later; the controller of service accounts makes it anew when somebody deletes it.
"""

from kubelab.apiserver.resources import Resource
from kubelab.apiserver.store import Store
from kubelab.apiserver.watch import Change

DEFAULT = "default"


class DefaultAccounts:
    """Construct it before the server accepts writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.on_commit(self._observe)

    def _observe(self, resource: Resource, change: Change) -> None:
        if resource.key == "namespaces" and change.type == "ADDED":
            namespace = change.entry.object["metadata"]["name"]
            if self._store.peek("serviceaccounts", DEFAULT, namespace=namespace) is None:
                self._store.create_now("serviceaccounts", {"metadata": {"name": DEFAULT}}, namespace=namespace)

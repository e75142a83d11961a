"""APIServices: whether what they promise is to be had.

In: APIServices, the Services and EndpointSlices they name. Out: their condition Available. Nobody proxies requests to
servers of extensions: a group that this API server does not serve itself is not available.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubelab.apiserver.computed import API_SERVICES
from kubelab.controllers import objects
from kubelab.controllers.controller import Controller, Key, Mapper
from kubelab.controllers.objects import Object

SLICES, SERVICE_LABEL = "endpointslices.discovery.k8s.io", "kubernetes.io/service-name"
_PASSED = ("True", "Passed", "all checks passed")
_LOCAL = ("True", "Local", "Local APIServices are always available")


class ApiServiceController(Controller):
    name = "apiservice-availability-controller"

    def watches(self) -> Mapping[str, Mapper]:
        return {API_SERVICES: objects.own_key, "services": self._naming, SLICES: self._of_slice}

    def _naming(self, service: Object) -> Iterable[Key]:
        return self._of(*objects.key_of(service))

    def _of_slice(self, piece: Object) -> Iterable[Key]:
        return self._of(piece["metadata"]["namespace"], objects.labels_of(piece).get(SERVICE_LABEL, ""))

    def _of(self, namespace: str, name: str) -> Iterable[Key]:
        for entry in self.store.peek_all(API_SERVICES):
            wanted = entry["spec"].get("service") or {}
            if (wanted.get("namespace"), wanted.get("name")) == (namespace, name):
                yield objects.key_of(entry)

    async def reconcile(self, key: Key) -> float | None:
        api_service = self.store.peek(API_SERVICES, key[1])
        if api_service is None:
            return None
        state, reason, message = self._judge(api_service["spec"])
        status = api_service.get("status") or {}
        new = {"type": "Available", "status": state, "reason": reason, "message": message}
        conditions = objects.with_condition(status.get("conditions") or (), new, self.now())
        await self.write_status(api_service, {**status, "conditions": conditions})
        return None

    def _judge(self, spec: Object) -> tuple[str, str, str]:
        """Status, reason, message."""
        wanted = spec.get("service")
        if not wanted:
            return _LOCAL
        namespace, name = wanted.get("namespace", ""), wanted.get("name", "")
        where = f'service/{name} in "{namespace}"'
        service = self.store.peek("services", name, namespace=namespace)
        if service is None:
            return "False", "ServiceNotFound", f"{where} is not present"
        ports = [port for port in service["spec"].get("ports") or () if port.get("port") == wanted.get("port", 443)]
        if not ports:
            return "False", "ServicePortError", f"{where} is not listening on port {wanted.get('port', 443)}"
        if not self._ready(namespace, name):
            port = ports[0].get("name", "")
            text = f'endpoints for service/{name} in "{namespace}" have no addresses with port name "{port}"'
            return "False", "MissingEndpoints", text
        if spec.get("version") in self.store.registry.groups().get(spec.get("group", ""), ()):
            return _PASSED
        text = "failing or missing response: this API server passes no requests on to servers of extensions"
        return "False", "FailedDiscoveryCheck", text

    def _ready(self, namespace: str, name: str) -> bool:
        pieces = self.store.peek_all(SLICES, namespace=namespace)
        return any(
            (entry.get("conditions") or {}).get("ready", True)
            for piece in pieces
            if objects.labels_of(piece).get(SERVICE_LABEL) == name
            for entry in piece.get("endpoints") or ()
        )

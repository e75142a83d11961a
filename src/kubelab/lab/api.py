"""A small synchronous client of the lab's API server: lists, waits, applies manifests.

In: the kubeconfig's certificates. Out: objects; ApiRefusedError with the server's message.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kubelab.lab.errors import LabError

Object = dict[str, Any]
SERVED = 10.0
"""Seconds for a kind to be served once it is defined."""


def is_ready(item: Object) -> bool:
    """Whether a node or a pod says so."""
    conditions = (item.get("status") or {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


class ApiRefusedError(LabError):
    """The server refused a request; ``code`` is the HTTP status, ``reason`` what the server said."""

    def __init__(self, code: int, request: str, reason: str) -> None:
        super().__init__(f"{request}: {reason} ({code})")
        self.code, self.reason = code, reason


@dataclass(slots=True)
class LabApi:
    """One connection, kept open; not for several threads."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path
    _connection: http.client.HTTPSConnection | None = None
    _resources: dict[str, dict[str, Object]] = field(default_factory=dict)
    _defined: set[str] = field(default_factory=set)  # kinds of CRDs applied here: served a moment later

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Object:
        """Raises ApiRefusedError, OSError."""
        data = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            connection = self._connect()
            try:
                connection.request(method, path, data, {"Content-Type": content_type} if data else {})
                response = connection.getresponse()
                text = response.read()
                break
            except (http.client.HTTPException, OSError):
                # A kept connection may have been closed by the server meanwhile.
                self.close()
                if attempt == 2:
                    raise
        answer = json.loads(text) if text[:1] == b"{" else {"message": text.decode(errors="replace")}
        if response.status >= 400:
            raise ApiRefusedError(response.status, f"{method} {path}", str(answer.get("message", "")))
        return answer

    def get(self, path: str) -> Object:
        return self.request("GET", path)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def apply(self, manifests: Iterable[Object]) -> None:
        """Creates objects, or merges into those that exist; a kind not yet served is waited for (CRDs first)."""
        for manifest in manifests:
            if manifest.get("kind", "").endswith("List") and "items" in manifest:
                self.apply(manifest["items"])
            else:
                self._apply_one(manifest)

    def apply_configuration(self, manifest: Object, manager: str) -> Object:
        """Server-side apply, strict about unknown fields: what ``manager`` no longer says, goes. The stored object.

        Raises ApiRefusedError; LabError for a kind that is not served.
        """
        collection = self.collection(manifest)
        query = f"fieldManager={manager}&force=true&fieldValidation=Strict"
        path = f"{collection}/{manifest['metadata']['name']}"
        return self.request("PATCH", f"{path}?{query}", manifest, "application/apply-patch+yaml")

    def find(self, manifest: Object) -> Object | None:
        """The object that a manifest names, if there is one."""
        try:
            return self.get(f"{self.collection(manifest)}/{manifest['metadata']['name']}")
        except ApiRefusedError as error:
            if error.code != 404:
                raise
            return None

    def delete(self, manifest: Object) -> None:
        """Asks for the end of the object that a manifest names; what is not there is no error."""
        path = f"{self.collection(manifest)}/{manifest['metadata']['name']}"
        try:
            self.request("DELETE", path)
        except ApiRefusedError as error:
            if error.code != 404:
                raise

    def wait(self, path: str, ready: Any, timeout: float, what: str) -> Object:
        """Follows a collection until ``ready(items)`` is true. Raises LabError naming ``what``."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self.get(path)
            items = {item["metadata"].get("namespace", "") + "/" + item["metadata"]["name"]: item
                     for item in answer.get("items") or []}  # fmt: skip
            if ready(list(items.values())):
                return answer
            for kind, item in self._watch(path, answer["metadata"]["resourceVersion"], deadline):
                name = item["metadata"].get("namespace", "") + "/" + item["metadata"]["name"]
                items.pop(name, None)
                if kind != "DELETED":
                    items[name] = item
                if ready(list(items.values())):
                    return answer
                if time.monotonic() > deadline:
                    break
            if time.monotonic() > deadline:
                raise LabError(f"{what}: not within {timeout:.0f} s")

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self.authority))
            context.load_cert_chain(self.certificate, self.key)
            self._connection = http.client.HTTPSConnection(self.host, self.port, context=context, timeout=30)
        return self._connection

    def _watch(self, path: str, version: str, deadline: float) -> Iterator[tuple[str, Object]]:
        separator = "&" if "?" in path else "?"
        fresh = LabApi(self.host, self.port, self.authority, self.certificate, self.key)
        connection = fresh._connect()
        connection.timeout = max(0.1, deadline - time.monotonic())
        try:
            connection.request("GET", f"{path}{separator}watch=true&resourceVersion={quote(version)}")
            response = connection.getresponse()
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]
        except (TimeoutError, http.client.HTTPException, ConnectionError):
            return
        finally:
            fresh.close()

    def _apply_one(self, manifest: Object) -> None:
        collection = self.collection(manifest)
        name = manifest["metadata"]["name"]
        try:
            self.request("POST", collection, manifest)
        except ApiRefusedError as error:
            if error.code != 409:
                raise
            self.request("PATCH", f"{collection}/{name}", manifest, "application/merge-patch+json")
        self.defined(manifest)

    def defined(self, manifest: Object) -> None:
        """Something was created: the kind of a definition is served a moment later."""
        if manifest["kind"] == "CustomResourceDefinition":
            self._defined.add(manifest["spec"]["names"]["kind"])

    def collection(self, manifest: Object) -> str:
        """The path at which a manifest's object is created; a kind just defined is waited for. Raises LabError."""
        group, kind = manifest["apiVersion"], manifest["kind"]
        base = f"/apis/{group}" if "/" in group else f"/api/{group}"
        deadline = time.monotonic() + (SERVED if kind in self._defined else 0)
        while kind not in self._resources.get(base, {}):
            try:
                found = self.get(base)["resources"]
            except ApiRefusedError as error:
                if error.code != 404:
                    raise
                found = []
            self._resources[base] = {r["kind"]: r for r in found if "/" not in r["name"]}
            if kind not in self._resources[base]:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{kind} {manifest['metadata']['name']}: the API server does not serve {group} {kind}"
                    )
                time.sleep(0.05)
        resource = self._resources[base][kind]
        if resource["namespaced"]:
            namespace = manifest["metadata"].get("namespace", "default")
            return f"{base}/namespaces/{namespace}/{resource['name']}"
        return f"{base}/{resource['name']}"

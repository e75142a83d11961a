"""Writing objects of the API, over the same client that reads.

In: a collection (`/apis/cilium.io/v2/ciliumnodes`, `/api/v1/namespaces/default/pods`), a name, a body of plain data or
structs. Out: the object as the server stored it, as plain data.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cilium.sources.kubernetes.client import Client
from cilium.sources.kubernetes.errors import ApiError

MERGE = "application/merge-patch+json"


class Writes:
    """Every method raises ApiError (with `.status`, `.reason`) and Unreachable."""

    def __init__(self, client: Client, *, field_manager: str = "cilium") -> None:
        self._client = client
        self._manager = {"fieldManager": field_manager}

    async def get(self, collection: str, name: str) -> Any:
        return _decode(await self._client.request("GET", f"{collection}/{name}"))

    async def find(self, collection: str, name: str) -> Any | None:
        """`get`, or None if there is no such object."""
        try:
            return await self.get(collection, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(self, collection: str) -> list[Any]:
        """Every object, page by page."""
        items: list[Any] = []
        parameters = {"limit": "500"}
        while True:
            page = _decode(await self._client.request("GET", collection, parameters=parameters))
            items += page.get("items") or []
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            parameters["continue"] = token

    async def create(self, collection: str, body: Any) -> Any:
        """ApiError 409 AlreadyExists if the name is taken."""
        return await self._send("POST", collection, body)

    async def replace(self, collection: str, name: str, body: Any) -> Any:
        """ApiError 409 Conflict if `body` carries a resourceVersion that is no longer the present one."""
        return await self._send("PUT", f"{collection}/{name}", body)

    async def patch(self, collection: str, name: str, body: Any) -> Any:
        """Merge patch (RFC 7396): null removes, lists are replaced whole."""
        return await self._send("PATCH", f"{collection}/{name}", body, MERGE)

    async def patch_status(self, collection: str, name: str, body: Any) -> Any:
        """Merge patch of the status subresource."""
        return await self._send("PATCH", f"{collection}/{name}/status", body, MERGE)

    async def ensure(self, collection: str, name: str, body: Any) -> Any:
        """The object has what `body` says: merge patch, or create if there is none. For servers of any kind."""
        for _ in range(2):
            try:
                return await self.patch(collection, name, body)
            except ApiError as error:
                if error.status != 404:
                    raise
            try:
                return await self.create(collection, body)
            except ApiError as error:
                if error.reason != "AlreadyExists":  # somebody was faster: patch theirs
                    raise
        raise ApiError(409, "Conflict", f"{collection}/{name} appears and disappears faster than it can be written")

    async def delete(self, collection: str, name: str, *, uid: str = "", version: str = "") -> bool:
        """Whether the object was there. `uid` spares a namesake that took its place, `version` (resourceVersion) what
        somebody has changed since it was read: then ApiError 409.
        """
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        conditions = {"uid": uid} if uid else {}
        if version:
            conditions["resourceVersion"] = version
        if conditions:
            options["preconditions"] = conditions
        try:
            await self._client.request("DELETE", f"{collection}/{name}", body=msgspec.json.encode(options))
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    async def _send(
        self,
        method: str,
        path: str,
        body: Any,
        content_type: str = "application/json",
    ) -> Any:
        content = await self._client.request(
            method,
            path,
            parameters=self._manager,
            body=msgspec.json.encode(body),
            content_type=content_type,
        )
        return _decode(content)


def _decode(content: bytes) -> Any:
    return msgspec.json.decode(content) if content else None

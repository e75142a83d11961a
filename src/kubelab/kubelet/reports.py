"""What the kubelet writes to the API: pod statuses and events, coalesced, retried, never in anybody's way.

In: calls that return at once. Out: requests, the newest status of a pod only.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import aiohttp
import structlog

from kubelab import timestamps
from kubelab.kubelet.client import ApiClient, ApiError
from kubelab.kubelet.config import Object

log = structlog.get_logger(__name__)

RETRY_MIN, RETRY_MAX = 0.2, 5.0
_TRANSIENT = (aiohttp.ClientError, TimeoutError, OSError)


class Reporter:
    """Writes statuses and events; ``run`` is the task that sends them."""

    def __init__(self, client: ApiClient, node: str) -> None:
        self._client, self._node = client, node
        self._statuses: dict[str, tuple[Object, Object]] = {}
        self._sent: dict[str, Object] = {}
        self._versions: dict[str, int] = {}  # of the pod as our last status left it
        self._events: dict[tuple[str, str, str], Object] = {}
        self._unsent: list[tuple[str, str, str]] = []
        self._wake = asyncio.Event()

    def status(self, pod: Object, status: Object) -> None:
        """The pod's status is now this."""
        uid = pod["metadata"]["uid"]
        if self._sent.get(uid) != status:
            self._statuses[uid] = (pod, status)
            self._wake.set()

    def overwritten(self, pod: Object) -> bool:
        """Whether somebody wrote another readiness after ours, as it happens to the pods of a node declared silent;
        the same status will be sent again then."""
        uid, meta = pod["metadata"]["uid"], pod["metadata"]
        sent = self._sent.get(uid)
        if sent is None or int(meta["resourceVersion"]) <= self._versions[uid] or _ready(pod["status"]) == _ready(sent):
            return False
        del self._sent[uid]
        return True

    def event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        """Something worth telling happened; the same again counts up."""
        meta = pod["metadata"]
        key = (meta["uid"], reason, message)
        known = self._events.get(key)
        if known is not None:
            known["count"] += 1
            known["lastTimestamp"] = timestamps.now()
        else:
            if len(self._events) > 1000:
                self._events.clear()
            self._events[key] = {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{meta['name']}.{uuid.uuid4().hex[:16]}", "namespace": meta["namespace"]},
                "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": meta["name"],
                                   "namespace": meta["namespace"], "uid": meta["uid"]},
                "type": kind, "reason": reason, "message": message, "count": 1,
                "firstTimestamp": timestamps.now(), "lastTimestamp": timestamps.now(),
                "source": {"component": "kubelet", "host": self._node},
                "reportingComponent": "kubelet", "reportingInstance": self._node,
            }  # fmt: skip
        if key not in self._unsent:
            self._unsent.append(key)
        self._wake.set()

    async def gone(self, pod: Object, *, delete: bool) -> None:
        """Nothing of the pod is left here: the last status goes out, then the API may forget it."""
        meta = pod["metadata"]
        pending = self._statuses.pop(meta["uid"], None)
        if not delete:
            self._forget(meta["uid"])
            return
        if pending is not None:
            await self._send_status(meta["uid"], pending)
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0,
                "preconditions": {"uid": meta["uid"]}}  # fmt: skip
        delay = RETRY_MIN
        while True:
            try:
                await self._client.request("DELETE", path, body)
                break
            except ApiError as error:
                if error.code in (404, 409):
                    break
                log.warning("pod not deleted", pod=meta["name"], error=str(error))
            except _TRANSIENT as error:
                log.warning("pod not deleted", pod=meta["name"], error=str(error) or repr(error))
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MAX)
        self._forget(meta["uid"])

    def _forget(self, uid: str) -> None:
        self._sent.pop(uid, None)
        self._versions.pop(uid, None)

    async def run(self) -> None:
        delay = RETRY_MIN
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
                delay = RETRY_MIN
            except _TRANSIENT as error:
                log.warning("reports wait for the API server", error=str(error) or repr(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MAX)
                self._wake.set()

    async def _flush(self) -> None:
        while self._statuses:
            uid = next(iter(self._statuses))
            pending = self._statuses.pop(uid)
            try:
                await self._send_status(uid, pending)
            except _TRANSIENT:
                self._statuses.setdefault(uid, pending)
                raise
        while self._unsent:
            key = self._unsent.pop(0)
            try:
                if (event := self._events.get(key)) is not None:
                    await self._send_event(event)
            except _TRANSIENT:
                self._unsent.insert(0, key)
                raise
            if self._statuses:  # what somebody waits for goes first
                self._wake.set()
                return

    async def _send_status(self, uid: str, pending: tuple[Object, Object]) -> None:
        pod, status = pending
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        try:
            written = await self._client.patch(path, {"metadata": {"uid": uid}, "status": status})
            self._sent[uid], self._versions[uid] = status, int(written["metadata"]["resourceVersion"])
        except ApiError as error:
            if error.code not in (404, 409):
                log.error("pod status refused", pod=meta["name"], error=str(error))

    async def _send_event(self, event: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        name = event["metadata"]["name"]
        try:
            if event["count"] > 1:
                fields = {"count": event["count"], "lastTimestamp": event["lastTimestamp"]}
                try:
                    await self._client.patch(f"{path}/{name}", fields)
                    return
                except ApiError as error:
                    if error.code != 404:  # it happened again before it was told, or its time is over
                        raise
            await self._client.request("POST", path, event)
        except ApiError as error:
            log.info("event refused", reason=event["reason"], error=str(error))


def _ready(status: Object) -> str | None:
    found = (entry["status"] for entry in status.get("conditions") or [] if entry["type"] == "Ready")
    return next(found, None)

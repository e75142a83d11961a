"""The API server as a pod sees it: collections that are listed and then followed, for ever.

In: the pod's service account and environment. Out: calls with lists and changes. A lost connection is resumed where it
broke off, a lost history listed again; what was known stays known meanwhile.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
BACKOFF_MIN, BACKOFF_MAX = 0.1, 5.0
WATCH = 300
"""Seconds after which the server ends a watch and it is resumed."""


KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A server that is gone without a word (its node, or the link to it) is noticed within half a minute."""


class RefusedError(Exception):
    """The server's answer was an error; ``code`` is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where it is, and how one shows who one is."""

    host: str
    port: int
    account: Path = ACCOUNT

    @classmethod
    def in_cluster(cls) -> ApiServer:
        """Raises RuntimeError outside of a pod."""
        try:
            return cls(os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]))
        except KeyError as error:
            raise RuntimeError(f"not in a cluster: {error.args[0]} is not set; name an endpoint") from error

    def connect(self) -> http.client.HTTPSConnection:
        """Raises OSError."""
        context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=30, context=context)
        connection.connect()
        assert connection.sock is not None
        for level, name, value in KEEPALIVE:
            connection.sock.setsockopt(level, name, value)
        return connection

    def headers(self) -> dict[str, str]:
        """The token is read every time: it is replaced while it still holds."""
        return {"Authorization": f"Bearer {(self.account / 'token').read_text().strip()}"}


class Follower:
    """One collection in a thread of its own. The calls come from that thread."""

    def __init__(
        self,
        server: ApiServer,
        path: str,
        replace: Callable[[list[Object]], None],
        change: Callable[[str, Object], None],
        complain: Callable[[str], None],
    ) -> None:
        self._server, self._path, self._replace, self._change = server, path, replace, change
        self._complain = complain
        self._ended = threading.Event()
        self._connection: http.client.HTTPSConnection | None = None
        self._thread = threading.Thread(target=self._run, name=path, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks for the end and does not wait for it."""
        self._ended.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(2)

    def _run(self) -> None:
        backoff, version = BACKOFF_MIN, ""
        while not self._ended.is_set():
            try:
                version = version or self._list()
                for kind, item in self._watch(version):
                    version, backoff = item["metadata"]["resourceVersion"], BACKOFF_MIN
                    if kind != "BOOKMARK":
                        self._change(kind, item)
                backoff = BACKOFF_MIN
                continue
            except RefusedError as error:
                version = ""
                if error.code != http.client.GONE:
                    self._complain(f"{self._path}: {error}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                if backoff == BACKOFF_MIN and not self._ended.is_set():  # once per interruption
                    self._complain(f"{self._path}: {error or type(error).__name__}")
            self._ended.wait(backoff)
            backoff = min(backoff * 2, BACKOFF_MAX)

    def _list(self) -> str:
        """The version of what was listed. Raises RefusedError, OSError, HTTPException."""
        connection = self._server.connect()
        try:
            answer = json.loads(self._get(connection, self._path).read())
        finally:
            connection.close()
        self._replace(answer.get("items") or [])
        return str(answer["metadata"]["resourceVersion"])

    def _watch(self, version: str) -> Any:
        query = f"watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH}&resourceVersion={version}"
        connection = self._connection = self._server.connect()
        try:
            assert connection.sock is not None
            connection.sock.settimeout(WATCH + 30)
            response = self._get(connection, f"{self._path}?{query}")
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise RefusedError(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event["type"], event["object"]
        finally:
            self._connection = None
            connection.close()

    def _get(self, connection: http.client.HTTPSConnection, path: str) -> http.client.HTTPResponse:
        connection.request("GET", path, headers=self._server.headers())
        response = connection.getresponse()
        if response.status >= 400:
            text = response.read().decode(errors="replace")
            with contextlib.suppress(ValueError, AttributeError):
                text = json.loads(text).get("message", text)
            raise RefusedError(response.status, text.strip()[:500])
        return response

"""The agent's API as cilium-dbg calls it: HTTP over the unix socket, with nothing imported that costs start-up time."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any

import click

DEFAULT_SOCKET = "/var/run/cilium/cilium.sock"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(path: str) -> Any:
    """GET /v1<path>, decoded. Raises click.ClickException with the agent's own words, or why it does not answer."""
    location = os.environ.get("CILIUM_SOCK", DEFAULT_SOCKET)
    connection = _UnixConnection(location)
    try:
        connection.request("GET", f"/v1{path}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise click.ClickException(
            f"the Cilium agent does not answer on {location}: {reason}; is it running on this node?"
        ) from None
    finally:
        connection.close()
    if response.status != 200:
        raise click.ClickException(body.decode(errors="replace").strip() or f"the agent answered {response.status}")
    return json.loads(body)


def print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))

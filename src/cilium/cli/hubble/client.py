"""The connection to a flow service: a node's unix socket, a node's port 4244, or a relay.

Owns: `Server` (where and how) and the words for what goes wrong. gRPC is imported here and nowhere else in the
command, when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import grpc

_OTHER = "give another with --server or HUBBLE_SERVER"
DEFAULT_SERVER = "unix:///var/run/cilium/hubble.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`timeout` in seconds is for the connection, `request_timeout` for requests that end by themselves."""

    address: str = DEFAULT_SERVER
    timeout: float = 5.0
    request_timeout: float = 12.0
    tls: bool = False
    tls_ca_files: tuple[str, ...] = ()
    tls_client_cert: str = ""
    tls_client_key: str = ""
    tls_server_name: str = ""

    @contextmanager
    def observer(self) -> Iterator[Any]:
        """A stub of observer.Observer. Raises ClickException when the server is away or the request fails."""
        if self._socket is not None and not self._socket.exists():
            hint = "is cilium-agent running here, with Hubble on?"
            raise click.ClickException(f"{self.address}: no such socket: {hint} Or {_OTHER}")
        import grpc

        from cilium.api.proto.observer import observer_pb2_grpc

        channel = self._channel(grpc)
        try:
            grpc.channel_ready_future(channel).result(timeout=self.timeout)
            yield observer_pb2_grpc.ObserverStub(channel)
        except grpc.FutureTimeoutError:
            raise click.ClickException(f"{self.address}: no answer within {self.timeout:g} s; {_OTHER}") from None
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise click.ClickException(f"{self.address}: {_reason(error)}") from None
        finally:
            channel.close()

    def _channel(self, grpc: Any) -> grpc.Channel:
        options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", 64 << 20)]
        target = self.address.removeprefix("tls://")
        if self.tls or target != self.address:
            if self.tls_server_name:
                options.append(("grpc.ssl_target_name_override", self.tls_server_name))
            return grpc.secure_channel(target, self._credentials(grpc), options=options)
        return grpc.insecure_channel(target, options=options)

    def _credentials(self, grpc: Any) -> Any:
        try:
            roots = b"".join(Path(path).read_bytes() for path in self.tls_ca_files) or None
            key = Path(self.tls_client_key).read_bytes() if self.tls_client_key else None
            certificate = Path(self.tls_client_cert).read_bytes() if self.tls_client_cert else None
        except OSError as error:
            raise click.ClickException(f"TLS: cannot read {error.filename}: {error.strerror}") from None
        return grpc.ssl_channel_credentials(roots, key, certificate)

    @property
    def _socket(self) -> Path | None:
        """Of a unix socket's address."""
        scheme, _, path = self.address.partition(":")
        return Path("/" + path.lstrip("/")) if scheme == "unix" else None


def _reason(error: Any) -> str:
    code = error.code().name.lower().replace("_", " ")
    return f"{code}: {error.details()}"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The server flags, gathered into one `server` argument."""
    for decorator in reversed(_OPTIONS):
        command = decorator(command)
    return command


def server_from(
    server: str,
    timeout: str,
    request_timeout: str,
    tls: bool,
    tls_ca_cert_files: tuple[str, ...],
    tls_client_cert_file: str,
    tls_client_key_file: str,
    tls_server_name: str,
) -> Server:
    """The values of the server flags as a Server."""
    from cilium.cli.hubble.times import duration

    try:
        seconds = [duration(value).total_seconds() for value in (timeout, request_timeout)]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    return Server(
        address=server,
        timeout=seconds[0],
        request_timeout=seconds[1],
        tls=tls,
        tls_ca_files=tls_ca_cert_files,
        tls_client_cert=tls_client_cert_file,
        tls_client_key=tls_client_key_file,
        tls_server_name=tls_server_name,
    )


def _option(*names: str, **attributes: Any) -> Callable[..., Any]:
    return click.option(*names, show_envvar=True, **attributes)


_OPTIONS = (
    _option("--server", default=DEFAULT_SERVER, show_default=True, envvar="HUBBLE_SERVER", help="Address."),
    _option("--timeout", default="5s", show_default=True, envvar="HUBBLE_TIMEOUT", help="For connecting."),
    _option(
        "--request-timeout", default="12s", show_default=True, envvar="HUBBLE_REQUEST_TIMEOUT", help="Per request."
    ),
    _option("--tls", is_flag=True, envvar="HUBBLE_TLS", help="Use TLS."),
    _option("--tls-ca-cert-files", multiple=True, envvar="HUBBLE_TLS_CA_CERT_FILES", help="Trusted authorities."),
    _option("--tls-client-cert-file", default="", envvar="HUBBLE_TLS_CLIENT_CERT_FILE", help="Certificate."),
    _option("--tls-client-key-file", default="", envvar="HUBBLE_TLS_CLIENT_KEY_FILE", help="Its key."),
    _option("--tls-server-name", default="", envvar="HUBBLE_TLS_SERVER_NAME", help="Name in the server's certificate."),
)


def take_server(arguments: dict[str, Any]) -> Server:
    """Remove the server flags from a command's arguments and return the Server they say."""
    names = signature(server_from).parameters
    return server_from(**{name: arguments.pop(name) for name in names})


def quiet_broken_pipe() -> None:
    """`hubble observe | head` is no error: end like any filter whose reader has left."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

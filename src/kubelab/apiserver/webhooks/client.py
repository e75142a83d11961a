"""Who a clientConfig names, asked.

Comes in: a clientConfig (`url`, or `service` with its path and port; `caBundle`), a review. Goes out: the review that
came back, or `CallError` in the words in which Go programs tell what went wrong. A Service is reached through the node
of one of its endpoints: the API server itself is not in the pod network.
"""

import asyncio
import base64
import binascii
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import h11
import msgspec

from kubelab.apiserver.backends import Backend, backend
from kubelab.apiserver.errors import ApiError
from kubelab.apiserver.kubelets import Kubelets
from kubelab.apiserver.store import Store
from kubelab.apiserver.webhooks.exchange import Answer, exchange, tls_context

Object = dict[str, Any]
_NETWORK_TIMEOUT = "context deadline exceeded"
_NO_CERTIFICATE_OF_US = {18, 19, 20, 21}
"""OpenSSL's reasons for: nobody we trust has signed it."""
_EXPIRED, _MISMATCH = 10, 62


class CallError(Exception):
    """The webhook could not be asked, or did not answer as one does."""


@dataclass(frozen=True, slots=True)
class Place:
    """`service`: namespace and name, where a Service is named."""

    host: str
    port: int
    target: str
    service: tuple[str, str] | None = None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> "Place":
        """Raises CallError for a clientConfig that names nobody."""
        service = config.get("service")
        if service:
            path = service.get("path") or "/"
            name, namespace = service["name"], service["namespace"]
            return cls(f"{name}.{namespace}.svc", int(service.get("port") or 443), path, (namespace, name))
        url = urlsplit(config.get("url") or "")
        if url.scheme != "https" or not url.hostname:
            raise CallError("webhook configuration must have either service or URL")
        return cls(url.hostname, url.port or 443, url.path or "/")


class WebhookClient:
    def __init__(self, store: Store, kubelets: Kubelets) -> None:
        self._store, self._kubelets = store, kubelets
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def call(self, config: Mapping[str, Any], review: Object, *, timeout: int) -> Object:
        """Raises CallError. `timeout`: seconds for all of it."""
        place = Place.read(config)
        target = f"{place.target}?{urlencode({'timeout': f'{timeout}s'})}"
        try:
            async with asyncio.timeout(timeout):
                answer = await self._exchange(place, target, config, msgspec.json.encode(review))
        except TimeoutError as error:
            raise _failed(place, target, _NETWORK_TIMEOUT) from error
        except ApiError as error:
            raise _failed(place, target, error.message) from error
        except (OSError, ValueError, h11.ProtocolError) as error:
            raise _failed(place, target, _words(place, error)) from error
        return _content(answer)

    async def _exchange(self, place: Place, target: str, config: Mapping[str, Any], body: bytes) -> Answer:
        reader, writer = await self._connect(place)
        try:
            await writer.start_tls(self._context(config.get("caBundle") or ""), server_hostname=place.host)
            answer = await exchange(reader, writer, place.authority, target, body)
        except BaseException:
            # Who does not answer does not say good-bye either.
            writer.transport.abort()
            raise
        writer.close()
        return answer

    async def _connect(self, place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self._backend(place)
        if where.node:
            endpoint = self._kubelets.of_node(where.node)
            try:
                return await self._kubelets.tunnel(endpoint, where.host, where.port)
            except ApiError as error:
                raise ConnectionError(f"dial tcp {_joined(where)}: connect: {error.message}") from error
        try:
            return await asyncio.open_connection(where.host, where.port)
        except socket.gaierror as error:
            raise ConnectionError(f"dial tcp: lookup {where.host}: no such host") from error
        except OSError as error:
            why = _cause(error)
            raise ConnectionError(f"dial tcp {_joined(where)}: connect: {why}") from error

    def _backend(self, place: Place) -> Backend:
        if place.service is None:
            return Backend("", place.host, place.port)
        namespace, name = place.service
        service = self._store.peek("services", name, namespace=namespace)
        if service is None:
            raise ConnectionError(f'service "{name}" not found')
        return backend(self._store, service, str(place.port))

    def _context(self, bundle: str) -> ssl.SSLContext:
        context = self._contexts.get(bundle)
        if context is None:
            try:
                context = tls_context(base64.b64decode(bundle))
            except (ssl.SSLError, binascii.Error) as error:
                raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from error
            if len(self._contexts) > 64:
                self._contexts.clear()
            self._contexts[bundle] = context
        return context


def _failed(place: Place, target: str, why: str) -> CallError:
    return CallError(f'Post "https://{place.authority}{target}": {why}')


def _joined(where: Backend) -> str:
    return f"[{where.host}]:{where.port}" if ":" in where.host else f"{where.host}:{where.port}"


def _cause(error: OSError) -> str:
    text = error.strerror or str(error)
    # asyncio says "Connect call failed (…)" and "[Errno 111] Connect call failed"; the number tells more.
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return text.lower()


def _words(place: Place, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        number = error.verify_code
        why = f"certificate is not trusted: {error.verify_message}"
        if number in _NO_CERTIFICATE_OF_US:
            why = "certificate signed by unknown authority"
        elif number == _EXPIRED:
            why = "certificate has expired or is not yet valid"
        elif number == _MISMATCH or "mismatch" in error.verify_message.lower():
            why = f"certificate is not valid for any names, but wanted to match {place.host}"
        return f"tls: failed to verify certificate: x509: {why}"
    if isinstance(error, ssl.SSLError):
        wrong = error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
        return "http: server gave HTTP response to HTTPS client" if wrong else f"tls: {error.reason or error}"
    if isinstance(error, h11.RemoteProtocolError):
        return "EOF" if "closed" in str(error) else f"malformed HTTP response: {error}"
    if isinstance(error, ConnectionResetError):
        return "read: connection reset by peer"
    return str(error) or "EOF"


def _content(answer: Answer) -> Object:
    """The object that came back. Raises CallError as client-go tells a refusal."""
    try:
        content = msgspec.json.decode(answer.body)
    except msgspec.DecodeError as error:
        content = None
        if answer.status < 400:
            raise CallError(f"couldn't get version/kind; json parse error: {error}") from error
    if answer.status >= 400:
        if isinstance(content, dict) and content.get("kind") == "Status" and content.get("message"):
            raise CallError(str(content["message"]))
        raise CallError(_REFUSALS.get(answer.status) or _refusal(answer))
    if not isinstance(content, dict):
        raise CallError(
            "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct"
        )
    return content


_REFUSALS = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    403: "the server does not allow access to the requested resource",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    413: "Request entity too large: limit is 3145728",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


def _refusal(answer: Answer) -> str:
    text = answer.body[:2048].decode(errors="replace").strip()
    if answer.status >= 500:
        quoted = msgspec.json.encode(text or "unknown").decode()
        return f"an error on the server ({quoted}) has prevented the request from succeeding"
    return f"the server responded with the status code {answer.status} but did not return more information"

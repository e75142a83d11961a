"""What a stand-in says on a TCP connection, without its socket: HTTP/1, gRPC's health protocol, or lines.

In: bytes of a peer. Out: bytes to send. What an HTTP request is answered is up to a function of `Request` to
`Response`; `echo` tells who answers and what was asked. `GET /bytes/N` is answered by N bytes.

Only modules written in C are imported here, see `run.py`.
"""

from __future__ import annotations

import posix
from _json import encode_basestring_ascii as quoted

from kubelab import grpc_health
from kubelab.standin import grpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]
    Answer = Callable[["Request"], "Response"]

MAX_HEAD = 64 * 1024
MAX_SHOWN = 4096
MAX_BYTES = 64 * 1024 * 1024
MAX_BODY = 1024 * 1024
NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
STYLE = "body{font-family:Helvetica,Arial,sans-serif;color:#222;max-width:60em;margin:2em auto;padding:0 1em}"
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT")


def dumps(value: Json) -> str:
    """JSON on one line; the module json would cost a third of the start-up time."""
    if isinstance(value, str):
        return str(quoted(value))
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(name)}: {dumps(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(dumps(inner) for inner in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def to_json(value: Json) -> bytes:
    return f"{dumps(value)}\n".encode()


def plain_address(address: str) -> str:
    """Without the mapping that a socket of both families puts around IPv4, and without a zone."""
    return address.removeprefix("::ffff:").partition("%")[0]


def say(text: str) -> None:
    posix.write(1, f"{text}\n".encode())


class Identity:
    """Who answers."""

    def __init__(self, environment: dict[bytes, bytes]) -> None:
        def variable(*names: str) -> str:
            found = (environment.get(name.encode(), b"").decode(errors="replace") for name in names)
            return next(filter(None, found), "")

        self.fields: dict[str, Json] = {
            "pod": variable("KUBELAB_POD", "POD_NAME", "HOSTNAME"),
            "namespace": variable("KUBELAB_NAMESPACE", "POD_NAMESPACE") or self._namespace(),
            "node": variable("KUBELAB_NODE", "NODE_NAME"),
            "container": variable("KUBELAB_CONTAINER"),
        }

    @staticmethod
    def _namespace() -> str:
        try:
            with open(NAMESPACE_FILE) as file:
                return file.read().strip()
        except OSError:
            return ""


class Request:
    """One HTTP request, whole."""

    def __init__(
        self, talk: Conversation, method: str, target: str, version: str, headers: dict[str, str], body: bytes
    ) -> None:
        self.talk, self.method, self.target, self.version, self.headers, self.body = (
            talk, method, target, version, headers, body,
        )  # fmt: skip
        self.path, _, self.query = target.partition("?")

    @property
    def text(self) -> str:
        """The body, as much as is shown."""
        return self.body[:MAX_SHOWN].decode("utf-8", "replace")

    @property
    def parameters(self) -> dict[str, str]:
        """Of the query, decoded; of several with one name the last."""
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        return {unquote(name): unquote(value) for name, _, value in pairs}


class Response:
    """What to answer; `headers` beside length, type and connection."""

    def __init__(
        self,
        content: bytes | str,
        status: str = "200 OK",
        kind: str = "application/json",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.content = content.encode() if isinstance(content, str) else content
        self.status, self.kind, self.headers = status, kind, headers


def unquote(text: str) -> str:
    """Without percent signs and pluses."""
    first, *rest = text.replace("+", " ").encode("latin-1", "replace").split(b"%")
    data = first
    for part in rest:
        try:
            data += bytes([int(part[:2], 16)]) + part[2:]
        except ValueError:
            data += b"%" + part
    return data.decode("utf-8", "replace")


def escape(text: str) -> str:
    """For HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def page(title: str, body: str, status: str = "200 OK", style: str = STYLE) -> Response:
    """An HTML page; the body is HTML."""
    head = f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>{escape(title)}</title>'
    head += f"<style>{style}</style></head>"
    text = f"{head}\n<body><h1>{escape(title)}</h1>\n{body}</body></html>\n"
    return Response(text, status, "text/html; charset=utf-8")


def echo(request: Request) -> Response:
    """Who answers, who asked, what was asked; or as many bytes as the path wants."""
    size = request.target.removeprefix("/bytes/")
    if size != request.target and size.isdecimal() and int(size) <= MAX_BYTES:
        return Response(b"x" * int(size))
    fields = request.talk.fields("HTTP")
    asked: dict[str, Json] = {"method": request.method, "path": request.target, "headers": request.headers}
    return Response(to_json({**fields, **asked, "body": request.text}))


class Conversation:
    """One TCP connection without its socket: HTTP if it begins like a request, HTTP/2 if with its preface, otherwise
    lines.

    Bytes go in by `received`; `output` is to be sent, and when `closing` is set as well, nothing follows it.
    """

    def __init__(
        self,
        peer: tuple[str, int],
        port: int,
        identity: Identity,
        answer: Answer = echo,
        own: str = "",
        later: Callable[[Request], None] | None = None,
        check: Callable[[int, str], None] | None = None,
    ) -> None:
        """With ``later`` requests go there, one at a time, and come back by ``finish``: answers may take their time.

        With ``check`` gRPC's checks of named services go there, with their stream, and come back by ``checked``.
        """
        self.output = b""
        self.waiting: Request | None = None
        self._later = later
        self.closing = False
        self.peer, self.port, self.own, self._identity, self._respond_to = peer, port, own, identity, answer
        self._check = check
        self._input = b""
        self._http: bool | None = None
        self._http2: grpc.Http2 | None = None
        self._continued = False
        self._told = False

    def fields(self, protocol: str) -> dict[str, Json]:
        return {
            **self._identity.fields,
            "protocol": protocol,
            "port": self.port,
            "client": self.peer[0],
            "clientPort": self.peer[1],
        }

    def received(self, data: bytes) -> None:
        """Bytes came; none: the peer has finished sending."""
        self._input += data
        if self._http is None and self._http2 is None:
            self._decide(bool(data))
        if self._http2 is not None:
            self._http2.received(self._input)
            self.output, self._http2.output, self._input = self.output + self._http2.output, b"", b""
            self.closing = self.closing or self._http2.closing
        elif self._http:
            while not self.closing and self.waiting is None and self._request():
                pass
        elif self._http is False:
            self._lines(finished=not data)
        if not data:
            self.closing = True

    def checked(self, stream: int, good: bool) -> None:
        """How a check of a service ended."""
        assert self._http2 is not None
        self._http2.tell(stream, good=good)
        self.output, self._http2.output = self.output + self._http2.output, b""

    def _decide(self, more: bool) -> None:
        """What is spoken; nothing is decided as long as the first word, or the preface, is not complete."""
        preface = grpc_health.PREFACE
        if self._input.startswith(preface):
            self._http2, self._input = grpc.Http2(self._check), self._input[len(preface) :]
        elif self._input and preface.startswith(self._input) and more:
            return
        else:
            word, separator, _ = self._input[:16].partition(b" ")
            if separator:
                self._http = word in METHODS
            elif not (any(method.startswith(word) for method in METHODS) and more):
                self._http = False

    def _lines(self, *, finished: bool) -> None:
        *lines, rest = self._input.split(b"\n")
        if rest and (finished or len(rest) > MAX_HEAD):
            lines, rest = [*lines, rest], b""
        if finished and not lines and not self._told:
            lines = [b""]  # who says nothing is still told who was there
        self._input = rest
        self._told = self._told or bool(lines)
        for line in lines:
            said = line.rstrip(b"\r")[:MAX_SHOWN].decode("utf-8", "replace")
            self.output += to_json({**self.fields("TCP"), "received": said})

    def _request(self) -> bool:
        """Answer the next request if it is complete; whether there may be another."""
        head, separator, rest = self._input.partition(b"\r\n\r\n")
        if not separator:
            if len(head) > MAX_HEAD:
                self._respond(b"HTTP/1.1", "431 Request Header Fields Too Large", b"", close=True)
            return False
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        if len(words) != 3 or not words[1] or not words[2].startswith(b"HTTP/1."):
            self._respond(b"HTTP/1.1", "400 Bad Request", b"", close=True)
            return False
        headers = {
            name.strip().decode("latin-1").lower(): value.strip().decode("latin-1")
            for name, _, value in (line.partition(b":") for line in lines)
        }
        body = self._body(headers, rest)
        if body is None:
            if headers.get("expect", "").lower() == "100-continue" and not self._continued:
                self._continued = True
                self.output += b"HTTP/1.1 100 Continue\r\n\r\n"
            return False
        content, self._input = body
        self._continued = False
        self._answer(words[0], words[1], words[2], headers, content)
        return bool(self._input)

    def _body(self, headers: dict[str, str], rest: bytes) -> tuple[bytes, bytes] | None:
        """(body, what follows), None while it is incomplete."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks(rest)
        length = headers.get("content-length", "0")
        size = int(length) if length.isdecimal() else -1
        if not 0 <= size <= MAX_BODY:
            self._respond(b"HTTP/1.1", "413 Content Too Large", b"", close=True)
            return None
        return (rest[:size], rest[size:]) if len(rest) >= size else None

    def _chunks(self, rest: bytes) -> tuple[bytes, bytes] | None:
        body = b""
        while True:
            line, separator, after = rest.partition(b"\r\n")
            if not separator:
                return None
            try:
                size = int(line.partition(b";")[0], 16)
            except ValueError:
                size = -1
            if not 0 <= size <= MAX_BODY - len(body):
                self._respond(b"HTTP/1.1", "400 Bad Request", b"", close=True)
                return None
            if len(after) < size + 2:
                return None
            body, rest = body + after[:size], after[size + 2 :]
            if size == 0:
                return body, rest

    def _answer(self, method: bytes, target: bytes, version: bytes, headers: dict[str, str], body: bytes) -> None:
        request = Request(self, method.decode("latin-1"), target.decode("latin-1"), version.decode(), headers, body)
        say(f"{self.peer[0]} {request.method} {request.target}")
        if self._later is None:
            self._tell(request, self.response(request))
        else:
            self.waiting = request
            self._later(request)

    def response(self, request: Request) -> Response:
        """Whatever a request brings, the server lives."""
        try:
            return self._respond_to(request)
        except Exception as error:
            say(f"{request.target}: {type(error).__name__}: {error}")
            return Response("internal error\n", "500 Internal Server Error", "text/plain")

    def finish(self, response: Response) -> None:
        """The answer to what is waited for; what came meanwhile is its turn."""
        request, self.waiting = self.waiting, None
        if request is not None:
            self._tell(request, response)
            while not self.closing and self.waiting is None and self._input and self._request():
                pass

    def _tell(self, request: Request, response: Response) -> None:
        wanted, version = request.headers.get("connection", "").lower(), request.version.encode()
        close = "close" in wanted if version == b"HTTP/1.1" else "keep-alive" not in wanted
        self._write(version, response, close=close, head=request.method == "HEAD")

    def _respond(self, version: bytes, status: str, content: bytes, *, close: bool) -> None:
        self._write(version, Response(content, status), close=close)

    def _write(self, version: bytes, response: Response, *, close: bool, head: bool = False) -> None:
        content = response.content
        lines = [f"{version.decode()} {response.status}", f"Content-Length: {len(content)}"]
        lines += [f"Content-Type: {response.kind}", f"Connection: {'close' if close else 'keep-alive'}"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        self.output += "\r\n".join([*lines, "", ""]).encode() + (b"" if head else content)
        self.closing = self.closing or close

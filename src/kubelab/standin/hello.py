"""Small demonstration servers: one answers like the image that its first argument names.

    run.py hello ealen | http-echo | whoami | nginxdemos | hello-app | kuard | hello-kubernetes | httpbin | bootcamp |
                 served-by | fixed PORT TEXT  ARGUMENT…

Ports and texts come from where the image takes them: arguments or environment.
"""

from __future__ import annotations

import posix
import sys
import time

from kubelab.standin.conversation import Request, Response, dumps, escape, page
from kubelab.standin.flags import Flags, port_of
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kubelab.standin.conversation import Json

    Maker = Callable[[Flags, dict[str, str]], "tuple[str, Callable[[Request], Response]]"]

TEXT = "text/plain; charset=utf-8"
MISSING = Response("404 page not found\n", "404 Not Found", TEXT)
REASONS = {200: "OK", 201: "Created", 204: "No Content", 301: "Moved Permanently", 302: "Found", 400: "Bad Request",
           401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 418: "I'm a teapot", 429: "Too Many Requests",
           500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}  # fmt: skip


def status(code: int) -> str:
    return f"{code} {REASONS.get(code, 'Status')}"


def host() -> str:
    return posix.uname().nodename


def ealen(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    def answer(request: Request) -> Response:
        code = request.headers.get("x-echo-code") or request.parameters.get("echo_code") or "200"
        body = request.headers.get("x-echo-body") or request.parameters.get("echo_body")
        told = status(int(code)) if code.isdecimal() and 200 <= int(code) < 600 else status(200)
        if body:
            return Response(dumps(body), told, "application/json; charset=utf-8")
        peer = request.talk.peer[0]
        address = peer if ":" in peer else f"::ffff:{peer}"
        fields: dict[str, Json] = {
            "host": {"hostname": request.headers.get("host", "").partition(":")[0], "ip": address, "ips": []},
            "http": {"method": request.method, "baseUrl": "", "originalUrl": request.target, "protocol": "http"},
            "request": {"params": {"0": request.path}, "query": request.parameters, "cookies": {}, "body": request.text,
                        "headers": request.headers},
            "environment": variables,
        }  # fmt: skip
        return Response(dumps(fields), told, "application/json; charset=utf-8")

    return variables.get("PORT") or "80", answer


def http_echo(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    text = flags.get("text") or variables.get("ECHO_TEXT", "")
    if not text:
        sys.stderr.write("Missing -text option!\n")
        raise SystemExit(127)
    code = flags.get("status-code")

    def answer(request: Request) -> Response:
        if request.path == "/health":
            return Response('{"status":"ok"}\n')
        return Response(f"{text}\n", status(int(code)) if code.isdecimal() else "200 OK", TEXT)

    return port_of(flags.get("listen"), "5678"), answer


def whoami(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    name = flags.get("name") or variables.get("WHOAMI_NAME", "")

    def answer(request: Request) -> Response:
        own, peer = request.talk.own, request.talk.peer
        headers = [f"{key.title()}: {text}" for key, text in sorted(request.headers.items()) if key != "host"]
        if request.path == "/health":
            return Response("", kind=TEXT)
        if request.path == "/api":
            fields: dict[str, Json] = {"hostname": host(), "ip": [own], "headers": request.headers}
            fields |= {"url": request.target, "host": request.headers.get("host", ""), "method": request.method}
            fields |= {"remoteAddr": f"{peer[0]}:{peer[1]}"}
            return Response(dumps({**fields, "name": name} if name else fields))
        lines = [f"Name: {name}"] if name else []
        remote = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
        lines += [f"Hostname: {host()}", f"IP: {own}", f"RemoteAddr: {remote}:{peer[1]}"]
        lines += [f"{request.method} {request.target} {request.version}", f"Host: {request.headers.get('host', '')}"]
        return Response("\n".join([*lines, *headers, "", ""]), kind=TEXT)

    return flags.get("port") or variables.get("WHOAMI_PORT_NUMBER") or "80", answer


def nginxdemos(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    def answer(request: Request) -> Response:
        now = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())
        pairs = [("Server address", f"{request.talk.own}:{request.talk.port}"), ("Server name", host()), ("Date", now),
                 ("URI", request.target)]  # fmt: skip
        if "plain-text" in variables.get("KUBELAB_IMAGE", ""):
            return Response("".join(f"{name}: {text}\n" for name, text in pairs), kind="text/plain")
        rows = "".join(f"<p><span>{name}:</span> <span>{escape(text)}</span></p>\n" for name, text in pairs)
        return page("Hello World", rows)

    return flags.get("port") or "80", answer


def hello_app(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    tag = variables.get("KUBELAB_IMAGE", "").rpartition(":")[2]
    version = f"{tag}.0.0" if tag.isdecimal() else tag if tag.replace(".", "").isdecimal() else "1.0.0"
    text = f"Hello, world!\nVersion: {version}\nHostname: {host()}\n"
    return variables.get("PORT") or "8080", lambda request: Response(text, kind=TEXT)


def bootcamp(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    version = variables.get("KUBELAB_IMAGE", "").rpartition(":v")[2] or "1"
    text = f"Hello Kubernetes bootcamp! | Running on: {host()} | v={version if version.isdecimal() else '1'}\n"
    return flags.get("port") or "8080", lambda request: Response(text, kind=TEXT)


def fixed(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    """One text on one port: the first two arguments behind the name."""
    port, text = [*flags.rest, "8080", ""][:2]
    return port, lambda request: Response(text, kind=TEXT)


def served_by(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    def answer(request: Request) -> Response:
        headers = "".join(f"{name.title()}: {value}\n" for name, value in request.headers.items() if name != "host")
        first = f"{request.version} {request.method} {request.target}\n\nHost: {request.headers.get('host', '')}\n"
        return Response(f"Request served by {host()}\n\n{first}{headers}\n{request.text}", kind=TEXT)

    return variables.get("PORT") or "8080", answer


def kuard(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    def answer(request: Request) -> Response:
        if request.path.rstrip("/") in ("/healthy", "/ready"):
            return Response("ok", kind=TEXT)
        if request.path == "/env/api":
            return Response(dumps({"commandLine": ["/kuard"], "env": variables}))
        return page("KUAR Demo", f"<p>{host()}</p>\n") if request.path == "/" else MISSING

    return port_of(flags.get("address"), "8080"), answer


def hello_kubernetes(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    message = variables.get("MESSAGE") or "Hello world!"
    return variables.get("PORT") or "8080", lambda request: page(message, f"<p>pod: {host()}</p>\n")


def httpbin(flags: Flags, variables: dict[str, str]) -> tuple[str, Callable[[Request], Response]]:
    def answer(request: Request) -> Response:
        first, _, rest = request.path.strip("/").partition("/")
        url = f"http://{request.headers.get('host', '')}{request.target}"
        fields: dict[str, Json] = {"args": request.parameters, "headers": request.headers, "url": url}
        fields |= {"origin": request.talk.peer[0]}
        if first == "status" and rest.isdecimal() and len(rest) == 3:
            return Response("", status(int(rest)), TEXT)
        if first in ("get", "post", "put", "patch", "delete", "anything"):
            return Response(dumps({**fields, "data": request.text, "method": request.method}))
        if first in ("headers", "ip", "user-agent"):
            agent = request.headers.get("user-agent", "")
            known: dict[str, Json] = {"headers": request.headers, "ip": request.talk.peer[0], "user-agent": agent}
            return Response(dumps({"origin" if first == "ip" else first: known[first]}))
        if not first:
            return page("httpbin", "")
        return MISSING

    return variables.get("PORT") or ("8080" if "go-httpbin" in variables.get("KUBELAB_IMAGE", "") else "80"), answer


SERVERS: dict[str, Maker] = {
    "ealen": ealen,
    "http-echo": http_echo,
    "whoami": whoami,
    "nginxdemos": nginxdemos,
    "hello-app": hello_app,
    "bootcamp": bootcamp,
    "fixed": fixed,
    "served-by": served_by,
    "kuard": kuard,
    "hello-kubernetes": hello_kubernetes,
    "httpbin": httpbin,
}


def main(arguments: list[str]) -> None:
    maker = SERVERS.get(arguments[0] if arguments else "")
    if maker is None:
        sys.stderr.write(f"usage: run.py hello {' | '.join(SERVERS)} ARGUMENT…\n")
        raise SystemExit(2)
    variables = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in posix.environ.items()}
    port, answer = maker(Flags(arguments[1:]), variables)
    serve([f"{port}/tcp"], answer)

"""cilium/starwars: the death star of Cilium's tutorials.

    run.py starwars [--port N]      on port 80

`GET /v1/` tells what it is, `POST /v1/request-landing` lets a ship land, `PUT /v1/exhaust-port` makes it explode: it
answers 503 with a trace, and the process ends two seconds later.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed knows the Python half of signal only
import posix

from kubelab.standin.conversation import Request, Response
from kubelab.standin.flags import Flags
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

TEXT = "text/plain"
FACTS = (
    ("name", "Death Star"),
    ("hostname", ""),
    ("model", "DS-1 Orbital Battle Station"),
    ("manufacturer", "Imperial Department of Military Research, Sienar Fleet Systems"),
    ("cost_in_credits", "1000000000000"),
    ("length", "120000"),
    ("crew", "342953"),
    ("passengers", "843342"),
    ("cargo_capacity", "1000000000000"),
    ("hyperdrive_rating", "4.0"),
    ("starship_class", "Deep Space Mobile Battlestation"),
)
CALLS = ("GET   /v1", "GET   /v1/healthz", "POST  /v1/request-landing", "PUT   /v1/cargobay",
         "GET   /v1/hyper-matter-reactor/status", "PUT   /v1/exhaust-port")  # fmt: skip
TRACE = """Panic: deathstar exploded

goroutine 1 [running]:
main.HandleGarbage(0x2080c3f50, 0x2, 0x4, 0x425c0, 0x5, 0xa)
        /code/src/github.com/empire/deathstar/
        temp/main.go:9 +0x64
main.main()
        /code/src/github.com/empire/deathstar/
        temp/main.go:5 +0x85
"""
FUSE = 2


def description() -> str:
    host = posix.uname().nodename
    lines = [f'\t"{name}": "{host if name == "hostname" else text}",' for name, text in FACTS]
    calls = ",\n".join(f'\t\t"{call}"' for call in CALLS)
    return "\n".join(["{", *lines, '\t"api": [', calls, "\t]", "}", ""])


def explode(number: int, frame: object) -> NoReturn:
    posix.write(2, b"panic: deathstar exploded\n")
    posix._exit(2)


def answer(request: Request) -> Response:
    methods: dict[str, tuple[str, Callable[[], str], str]] = {
        "/v1": ("GET", description, "200 OK"),
        "/v1/healthz": ("GET", str, "200 OK"),
        "/v1/request-landing": ("POST", lambda: "Ship landed\n", "200 OK"),
        "/v1/cargobay": ("PUT", str, "200 OK"),
        "/v1/hyper-matter-reactor/status": ("GET", str, "200 OK"),
        "/v1/exhaust-port": ("PUT", lambda: TRACE, "503 Service Unavailable"),
    }
    known = methods.get(request.path.rstrip("/"))
    if known is None:
        return Response(f'{{"code":404,"message":"path {request.path} was not found"}}', "404 Not Found")
    method, text, status = known
    if request.method not in (method, "HEAD" if method == "GET" else method):
        message = f"method {request.method} is not allowed, but [{method}] are"
        return Response(f'{{"code":405,"message":"{message}"}}', "405 Method Not Allowed", headers=[("Allow", method)])
    if request.path.startswith("/v1/exhaust-port"):
        _signal.alarm(FUSE)
    return Response(text(), status, TEXT)


def main(arguments: list[str]) -> NoReturn:
    _signal.signal(_signal.SIGALRM, explode)
    serve([f"{Flags(arguments).get('port') or '80'}/tcp"], answer)

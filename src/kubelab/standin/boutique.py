"""The services of Google's Online Boutique: a front end that asks all the others, gRPC servers that are healthy, and a
load generator.

    run.py boutique [frontend | loadgenerator | NAME]      without a name, by that of the image

The front end listens on PORT (8080). Whom it asks is in the environment, as in the manifests: every ..._SERVICE_ADDR.
A gRPC service answers the health protocol on PORT, and UNIMPLEMENTED to everything else: its API is not here.
"""

from __future__ import annotations

import posix
import time

from kubelab.standin import client
from kubelab.standin.conversation import Request, Response, escape, page, say
from kubelab.standin.server import heed, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PAUSE = 1.0
"""Seconds between two visits of the load generator."""
SUFFIX = "_SERVICE_ADDR"


def variable(name: str, default: str) -> str:
    return posix.environ.get(name.encode(), b"").decode() or default


def others() -> list[tuple[str, str]]:
    """(name, address) of the services that this one is told of."""
    pairs = ((name.decode(), value.decode()) for name, value in posix.environ.items())
    return sorted((name.removesuffix(SUFFIX).lower(), value) for name, value in pairs if name.endswith(SUFFIX))


def state(address: str) -> str:
    try:
        return "SERVING" if client.healthy(*client.split(address)) else "NOT_SERVING"
    except OSError as error:
        return f"unreachable: {error}"


def frontend(request: Request) -> Response:
    if request.path == "/_healthz":
        return Response("ok", kind="text/plain; charset=utf-8")
    if request.path == "/robots.txt":
        return Response("User-agent: *\nDisallow: /", kind="text/plain; charset=utf-8")
    states = {name: state(address) for name, address in others()}
    rows = "".join(f"<li>{escape(name)}: {escape(told)}</li>\n" for name, told in states.items())
    good = all(told == "SERVING" for told in states.values())
    return page("Online Boutique", f"<ul>\n{rows}</ul>\n", "200 OK" if good else "500 Internal Server Error")


def generate() -> NoReturn:
    """Visits the front end for ever."""
    host, port = client.split(variable("FRONTEND_ADDR", "frontend:80"))
    heed()
    while True:
        try:
            say(f"GET / {client.get(host, port, '/')[0]}")
        except OSError as error:
            say(f"GET / {error}")
        time.sleep(PAUSE)


def main(arguments: list[str]) -> NoReturn:
    image = variable("KUBELAB_IMAGE", "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    name = arguments[0] if arguments else image
    if name == "loadgenerator":
        generate()
    if name == "frontend":
        serve([f"{variable('PORT', '8080')}/tcp"], frontend, patient=True)
    ports = variable("KUBELAB_PORTS", "").split()
    serve([f"{variable('PORT', '')}/tcp"] if variable("PORT", "") else ports or ["8080/tcp"])

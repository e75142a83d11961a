"""The services of Google's Online Boutique: a shop that asks the others for what its pages show, gRPC servers that are
healthy, and a load generator.

    run.py boutique [frontend | loadgenerator | NAME]      without a name, by that of the image

The front end listens on PORT (8080) and has the pages of `shop`. Where the others are is in the environment, as in the
manifests: ..._SERVICE_ADDR. A page that needs a service that does not answer is an error that names it.
A gRPC service answers the health protocol on PORT, and UNIMPLEMENTED to everything else: its API is not here. Checked
by its name, as the shop does it, it asks those that it needs itself the same way: an order goes from the front end to
the checkout, and from there to payment, shipping and the others; the cart asks Redis.
"""

from __future__ import annotations

import posix
import time

from kubelab.standin import client
from kubelab.standin.conversation import Request, Response, say
from kubelab.standin.server import Words, heed, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

BEHIND = 1.0
"""Seconds for a service behind another one: less than for that one, which can still say who was missing."""
PAUSE = 1.0
"""Seconds between two visits of the load generator."""
VISITS = ("/", "/product/OLJCESPC7Z", "/cart", "/product/6E92ZMYYFZ")
"""What the load generator looks at, in turn."""


def variable(name: str, default: str) -> str:
    return posix.environ.get(name.encode(), b"").decode() or default


def address(name: str) -> str:
    """Where a service is; empty: this one is not told of it."""
    return variable(f"{name.upper()}_SERVICE_ADDR", "")


def state(name: str, timeout: float = client.TIMEOUT) -> str:
    """Empty: the service, and all that it needs, is well, or this one is not told of it; otherwise what is wrong."""
    place = address(name)
    service = f"hipstershop.{name.replace('_', ' ').title().replace(' ', '')}Service"
    try:
        return "" if not place or client.healthy(*client.split(place), service, timeout) else "NOT_SERVING"
    except OSError as error:
        return f"unreachable: {error}"


def well(service: str) -> bool:
    """Whether those that this service needs answer; a mail that nobody sends stops no order."""
    names = (name.decode() for name in posix.environ if name.endswith(b"_SERVICE_ADDR"))
    wanted = [name.removesuffix("_SERVICE_ADDR").lower() for name in names]
    missing = {name: told for name in wanted if (told := state(name, BEHIND))}
    if store := variable("REDIS_ADDR", ""):
        try:
            client.redis(*client.split(store, 6379), "PING")
        except OSError as error:
            missing["redis"] = str(error)
    say(f"{service}" + "".join(f"; {name}: {told}" for name, told in missing.items()))
    return not missing.keys() - {"email"}


class Frontend:
    """The shop, as far as the services behind it answer."""

    def __init__(self) -> None:
        from kubelab.standin import shop

        self._pages, self._shop = shop, shop.Shop()

    def answer(self, request: Request) -> Response:
        if request.path == "/_healthz":
            return Response("ok", kind="text/plain; charset=utf-8")
        if request.path == "/robots.txt":
            return Response("User-agent: *\nDisallow: /", kind="text/plain; charset=utf-8")
        needed, welcome = self._pages.needs(request)
        states = {name: state(name) for name in needed}
        missing = [f"{name}service: {told}" for name, told in states.items() if told]
        if missing:
            return self._pages.failure(request, "could not retrieve what this page shows\n" + "\n".join(missing))
        there = {name for name in welcome if address(name) and not state(name)}
        return self._shop.answer(request, "recommendation" in there, "ad" in there)


def generate() -> NoReturn:
    """Visits the front end for ever."""
    host, port = client.split(variable("FRONTEND_ADDR", "frontend:80"))
    heed()
    step = 0
    while True:
        path = VISITS[step % len(VISITS)]
        try:
            say(f"GET {path} {client.get(host, port, path)[0]}")
        except OSError as error:
            say(f"GET {path} {error}")
        step += 1
        time.sleep(PAUSE)


def main(arguments: list[str]) -> NoReturn:
    image = variable("KUBELAB_IMAGE", "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    name = arguments[0] if arguments else image
    if name == "loadgenerator":
        generate()
    if name == "frontend":
        serve([f"{variable('PORT', '8080')}/tcp"], Frontend().answer, patient=True)
    ports = variable("KUBELAB_PORTS", "").split()
    places = [f"{variable('PORT', '')}/tcp"] if variable("PORT", "") else ports or ["8080/tcp"]
    serve(places, words=Words(check=well))

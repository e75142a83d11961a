"""Istio's Bookinfo: a product page that fetches details and reviews, reviews that fetch ratings.

    run.py bookinfo productpage | details | reviews | ratings [VERSION] [PORT]      port 9080

reviews-v1 shows no stars, v2 black ones, v3 red ones. Hosts and ports of the others come from DETAILS_HOSTNAME,
REVIEWS_HOSTNAME, RATINGS_HOSTNAME and ..._SERVICE_PORT, as in the images.
"""

from __future__ import annotations

import posix
import sys

from kubelab.standin import client
from kubelab.standin.conversation import STYLE, Request, Response, dumps, escape, page, unquote
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kubelab.standin.conversation import Json

PORT = 9080
PASSED_ON = ("x-request-id", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "traceparent",
             "tracestate", "end-user", "user-agent", "cookie", "authorization")  # fmt: skip
"""Headers that go along with the requests that one request causes."""
HTML = "text/html; charset=utf-8"
STARS_STYLE = """
.sign{float:right;margin-top:-3.2em}th{text-align:left;padding-right:2em}
blockquote{border-left:4px solid #ddd;padding-left:1em}
.red{color:red;font-size:1.4em;margin:0}.black{font-size:1.4em;margin:0}
"""
COLOURS = {"v2": "black", "v3": "red"}
DETAILS: dict[str, Json] = {"author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200,
                            "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890",
                            "ISBN-13": "123-1234567890"}  # fmt: skip
TEXTS = (
    ("Reviewer1", "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"),
    (
        "Reviewer2",
        "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
    ),
)
STARS: dict[str, Json] = {"Reviewer1": 5, "Reviewer2": 4}


def variable(name: str, default: str) -> str:
    return posix.environ.get(name.encode(), b"").decode() or default


def fetch(service: str, path: str, request: Request) -> tuple[int, bytes]:
    """(status, body) of another service; 503 with the reason when it does not answer."""
    host = variable(f"{service.upper()}_HOSTNAME", service)
    domain = variable("SERVICES_DOMAIN", "")
    host = f"{host}.{domain}" if domain else host
    port = int(variable(f"{service.upper()}_SERVICE_PORT", str(PORT)))
    headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
    if name := user(request):
        headers["end-user"] = name
    try:
        return client.get(host, port, path, headers)
    except OSError as error:
        return 503, dumps({"error": f"{service}: {error}"}).encode()


def number(path: str) -> int | None:
    last = path.rpartition("/")[2]
    return int(last) if last.isdecimal() else None


def productpage(request: Request, version: str) -> Response:
    path = request.path
    if path == "/health":
        return Response("Product page is healthy", kind="text/html; charset=utf-8")
    if path in ("/", "/index.html"):
        return page(
            "Hello! This is a simple bookstore application", '<a href="/productpage?u=normal">Normal user</a>\n'
        )
    if path.startswith("/api/v1/products"):
        parts = path.strip("/").split("/")
        if len(parts) == 3:
            return Response(dumps([{"id": 0, "title": "The Comedy of Errors"}]))
        service = {"reviews": "reviews", "ratings": "ratings"}.get(parts[-1], "details")
        status, body = fetch(service, f"/{service}/{parts[3]}", request)
        return Response(body, f"{status} {'OK' if status == 200 else 'Service Unavailable'}")
    if path == "/login" and request.method == "POST":
        sent = Request(request.talk, "GET", f"/?{request.body.decode('latin-1')}", "HTTP/1.1", {}, b"").parameters
        name = sent.get("username", "").encode().hex()
        return Response(
            "", "302 Found", HTML, [("Location", "/productpage"), ("Set-Cookie", f"session={name}; Path=/")]
        )
    if path == "/logout":
        gone = "session=; Path=/; Max-Age=0"
        return Response("", "302 Found", HTML, [("Location", "/productpage"), ("Set-Cookie", gone)])
    if path != "/productpage":
        return page("Not Found", "", "404 Not Found")
    return page("Simple Bookstore App", _sign(request) + _book(request), style=STYLE + STARS_STYLE)


def user(request: Request) -> str:
    """Who is signed in; empty: nobody."""
    found = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
    session = next((value for name, _, value in found if name == "session"), "")
    try:
        return bytes.fromhex(unquote(session)).decode()
    except ValueError:
        return ""


def _sign(request: Request) -> str:
    if name := user(request):
        return f'<p class="sign">{escape(name)} (<a href="/logout">sign out</a>)</p>\n'
    return (
        '<form class="sign" method="POST" action="/login"><input name="username" placeholder="User Name">'
        '<input name="passwd" type="password" placeholder="Password"><button>Sign in</button></form>\n'
    )


def _book(request: Request) -> str:
    """The book, with what the two other services say of it."""
    import json  # only this one of the services pays for it

    def told(service: str) -> tuple[int, Any]:
        status, body = fetch(service, f"/{service}/0", request)
        try:
            return status, json.loads(body)
        except ValueError:
            return 503, {"error": body.decode(errors="replace")}

    parts = ["<h2>The Comedy of Errors</h2>\n<p>A comedy by William Shakespeare, his shortest one.</p>\n"]
    status, found = told("details")
    if status == 200:
        labels = (("ISBN-10", "ISBN-10"), ("Publisher", "publisher"), ("Pages", "pages"), ("Type", "type"),
                  ("Language", "language"))  # fmt: skip
        rows = "".join(f"<tr><th>{label}:</th><td>{escape(str(found.get(key, '')))}</td></tr>" for label, key in labels)
        parts.append(f"<h4>Book Details</h4>\n<table>{rows}</table>\n")
    else:
        parts.append(_missing("details", found))
    status, found = told("reviews")
    if status == 200:
        texts = "".join(_review(review) for review in found.get("reviews", []))
        parts.append(
            f"<h4>Book Reviews</h4>\n{texts}<p>Reviews served by: <u>{escape(str(found.get('podname')))}</u></p>\n"
        )
    else:
        parts.append(_missing("reviews", found))
    return "".join(parts)


def _review(review: Any) -> str:
    rating = review.get("rating") or {}
    stars = ""
    if "stars" in rating:
        number = int(rating["stars"])
        stars = f'<p class="{rating.get("color", "black")}">{"★" * number}{"☆" * (5 - number)}</p>'
    elif rating:
        stars = f"<p><i>{escape(str(rating.get('error', '')))}</i></p>"
    return f"<blockquote>{escape(review['text'])}<p>— {escape(review['reviewer'])}</p>{stars}</blockquote>\n"


def _missing(service: str, found: Any) -> str:
    return (
        f"<h4>Error fetching product {service}!</h4>\n"
        f"<p>Sorry, product {service} are currently unavailable for this book.</p>\n<pre>{escape(dumps(found))}</pre>\n"
    )


def details(request: Request, version: str) -> Response:
    if request.path == "/health":
        return Response('{"status":"Details is healthy"}')
    which = number(request.path)
    if which is None:
        return Response('{"error":"please provide numeric product id"}', "400 Bad Request")
    return Response(dumps({"id": which, **DETAILS}))


def reviews(request: Request, version: str) -> Response:
    if request.path == "/health":
        return Response('{"status": "Reviews is healthy"}')
    which = number(request.path)
    if which is None:
        return Response('{"error":"please provide numeric product id"}', "400 Bad Request")
    colour = COLOURS.get(version)
    stars: dict[str, Json] = {}
    if colour:
        status, body = fetch("ratings", f"/ratings/{which}", request)
        text = body.decode(errors="replace")
        for name in STARS:
            told = text.partition(f'"{name}":')[2].strip()[:1]
            known: dict[str, Json] = {"stars": int(told), "color": colour} if told.isdecimal() else {}
            stars[name] = known if status == 200 else {"error": "Ratings service is currently unavailable"}
    items: list[Json] = [
        {"reviewer": name, "text": text, **({"rating": stars[name]} if name in stars else {})} for name, text in TEXTS
    ]
    pod = posix.uname().nodename
    cluster = variable("CLUSTER_NAME", "null")
    return Response(dumps({"id": str(which), "podname": pod, "clustername": cluster, "reviews": items}))


def ratings(request: Request, version: str) -> Response:
    if request.path == "/health":
        return Response('{"status":"Ratings is healthy"}')
    which = number(request.path)
    if which is None:
        return Response('{"error":"please provide numeric product ID"}', "400 Bad Request")
    return Response(dumps({"id": which, "ratings": STARS}))


SERVICES = {"productpage": productpage, "details": details, "reviews": reviews, "ratings": ratings}


def main(arguments: list[str]) -> None:
    """Without arguments the image's name says which service this is."""
    image = variable("KUBELAB_IMAGE", "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    words = [*arguments, *image.removeprefix("examples-bookinfo-").split("-")]
    name = next((word for word in words if word in SERVICES), "")
    version = next((word for word in words if word[:1] == "v" and word[1:].isdecimal()), "v1")
    if not name:
        sys.stderr.write(f"usage: run.py bookinfo {' | '.join(SERVICES)} [VERSION] [PORT]\n")
        raise SystemExit(2)
    port = next((word for word in arguments if word.isdecimal()), str(PORT))
    serve([f"{port}/tcp"], lambda request: SERVICES[name](request, version), patient=True)

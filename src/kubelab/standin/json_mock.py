"""cilium/json-mock: two collections as REST resources, and the checks that Cilium's tests and tutorials make.

    run.py json-mock      on PORT (80)

`/public` and `/private` hold one entry each, more come by POST; `/client-ip` tells the client's address as a socket
of both families names it, `/hostname` the pod; `/auth-header-required` answers 401 without
`Authorization: Bearer 123456`; `/headers` tells what was sent. What does not exist is 404 with an empty object.
"""

from __future__ import annotations

import posix

from kubelab.standin.conversation import Request, Response, dumps
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Entry = dict[str, Any]

TOKEN = "Bearer 123456"
HOME = (
    "<!DOCTYPE html><html><head><title>JSON Server</title></head><body><h1>JSON Server</h1><ul>{}</ul></body></html>\n"
)


class Store:
    """The collections."""

    def __init__(self) -> None:
        self.collections: dict[str, list[Entry]] = {
            "private": [{"id": 1, "body": "secret information"}],
            "public": [{"id": 1, "body": "public information"}],
        }

    def answer(self, request: Request) -> Response:
        path = request.path
        if path.startswith("/auth-header-required"):
            if request.headers.get("authorization") != TOKEN:
                text = f'Invalid Authorization header, try setting it to "{TOKEN}"'
                return Response(text, "401 Unauthorized", "text/html; charset=utf-8")
            return Response("{}")
        if path.startswith("/client-ip"):
            address = request.talk.peer[0]
            return _json({"client-ip": address if ":" in address else f"::ffff:{address}"})
        if path.startswith("/hostname"):
            return _json({"hostname": posix.uname().nodename})
        if path == "/headers":
            return _json({"headers": request.headers})
        if path == "/":
            links = "".join(f'<li><a href="{name}">/{name}</a></li>' for name in self.collections)
            return Response(HOME.format(links), kind="text/html; charset=utf-8")
        if path == "/db":
            return _json(self.collections)
        name, _, number = path.strip("/").partition("/")
        entries = self.collections.get(name)
        return _missing() if entries is None else self._resource(request, entries, number)

    def _resource(self, request: Request, entries: list[Entry], number: str) -> Response:
        if not number:
            if request.method in ("GET", "HEAD"):
                wanted = request.parameters
                return _json([e for e in entries if all(str(e.get(key)) == text for key, text in wanted.items())])
            if request.method == "POST":
                fresh = {**_body(request), "id": max((int(e["id"]) for e in entries), default=0) + 1}
                entries.append(fresh)
                return _json(fresh, "201 Created")
            return _missing()
        found = next((entry for entry in entries if str(entry["id"]) == number), None)
        if found is None:
            return _missing()
        if request.method == "DELETE":
            entries.remove(found)
            return _json({})
        if request.method == "PUT":
            kept = found["id"]
            found.clear()
            found.update(_body(request), id=kept)
        elif request.method == "PATCH":
            found.update(_body(request), id=found["id"])
        return _json(found)


def _body(request: Request) -> Entry:
    import json  # only who writes pays for it

    try:
        sent = json.loads(request.body or b"{}")
    except ValueError:
        return dict(_form(request))
    return sent if isinstance(sent, dict) else {}


def _form(request: Request) -> dict[str, str]:
    """Fields of a form: what curl -d sends."""
    form = Request(request.talk, "GET", f"/?{request.body.decode('latin-1')}", request.version, {}, b"")
    return form.parameters


def _json(value: Any, status: str = "200 OK") -> Response:
    return Response(_pretty(value), status, "application/json; charset=utf-8")


def _pretty(value: Any, indent: str = "") -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{dumps(str(name))}: {_pretty(part, inner)}" for name, part in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(inner + _pretty(part, inner) for part in value) + f"\n{indent}]"
    return dumps(value)


def _missing() -> Response:
    return _json({}, "404 Not Found")


def main(arguments: list[str]) -> NoReturn:
    port = posix.environ.get(b"PORT", b"").decode() or "80"
    serve([f"{port}/tcp"], Store().answer)

"""/livez, /readyz and /healthz: one word, each check of its own, or with `?verbose` all of them by name.

A process that answers is well: it holds everything in memory, and says that it serves only when it has read all of it.
Source: Kubernetes documentation "Kubernetes API health endpoints".
"""

from aiohttp import web

_ALWAYS = ("ping", "log", "etcd")
CHECKS = {"livez": _ALWAYS, "healthz": _ALWAYS, "readyz": (*_ALWAYS, "etcd-readiness", "informer-sync", "shutdown")}


def add_health(router: web.UrlDispatcher) -> None:
    for name in CHECKS:
        router.add_get(f"/{name}", _all)
        router.add_get(f"/{name}/", _all)
        router.add_get(f"/{name}/{{check}}", _one)


async def _all(request: web.Request) -> web.Response:
    name = request.path.strip("/")
    if "verbose" not in request.query:
        return _text("ok")
    without = request.query.getall("exclude", [])
    lines = [f"[+]{check} {'excluded: ' if check in without else ''}ok" for check in CHECKS[name]]
    unknown = [
        f'warn: some health checks cannot be excluded: no matches for "{w}"' for w in without if w not in CHECKS[name]
    ]
    return _text("\n".join([*lines, *unknown, f"{name} check passed", ""]))


async def _one(request: web.Request) -> web.Response:
    name = request.path.strip("/").partition("/")[0]
    if request.match_info["check"] not in CHECKS[name]:
        raise web.HTTPNotFound
    return _text("ok")


def _text(text: str) -> web.Response:
    return web.Response(text=text, headers={"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"})

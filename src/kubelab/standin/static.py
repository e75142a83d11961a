"""A web server for static pages, where the machine lacks the real one.

run.py static DIRECTORY TITLE [PORT]      files of DIRECTORY, if it exists; otherwise one page with a title
"""

from __future__ import annotations

import posix

from kubelab.standin.conversation import Request, Response, page
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

KINDS = {"html": "text/html", "htm": "text/html", "css": "text/css", "js": "text/javascript", "txt": "text/plain",
         "json": "application/json", "png": "image/png", "jpg": "image/jpeg", "svg": "image/svg+xml"}  # fmt: skip


class Pages:
    """Files of one directory, read at each request: a ConfigMap that changes is seen."""

    def __init__(self, directory: str, title: str) -> None:
        self._directory, self._title = directory.rstrip("/"), title

    def answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return self._page("405 Not Allowed", [("Allow", "GET, HEAD")])
        parts = request.path.split("/")
        if ".." in parts:
            return self._page("400 Bad Request")
        path = self._directory + request.path
        for name in (path.rstrip("/") + "/index.html" if request.path.endswith("/") else path, path):
            try:
                with open(name, "rb") as file:
                    return Response(file.read(), kind=KINDS.get(name.rpartition(".")[2], "application/octet-stream"))
            except PermissionError:
                return self._page("403 Forbidden")
            except OSError:
                continue
        return page(self._title, "") if request.path == "/" else self._page("404 Not Found")

    @staticmethod
    def _page(status: str, headers: list[tuple[str, str]] | None = None) -> Response:
        page = f"<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>\n"
        return Response(page, status, "text/html", headers or [])


def main(arguments: list[str]) -> NoReturn:
    directory, title, *rest = [*arguments, "", ""][: max(2, len(arguments))]
    port = next((word for word in rest if word.isdecimal()), posix.environ.get(b"PORT", b"").decode() or "80")
    serve([f"{port}/tcp"], Pages(directory or "/usr/share/nginx/html", title or "Welcome").answer)

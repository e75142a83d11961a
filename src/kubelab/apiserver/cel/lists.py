"""Functions on lists, sets, texts and URLs. Source: Kubernetes documentation "Common Expression Language"."""

import re
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubelab.apiserver.cel.functions import BOOL, DYN, INT, LIST, OPAQUE, STRING, function, method


def _index(values: list[Any], wanted: Any) -> int:
    return next((place for place, value in enumerate(values) if value == wanted), -1)


def _last_index(values: list[Any], wanted: Any) -> int:
    return next((place for place in reversed(range(len(values))) if values[place] == wanted), -1)


def _sum(values: list[Any]) -> Any:
    return sum(values) if values else 0


def _extreme(name: str, choose: Any) -> Any:
    def of(values: list[Any]) -> Any:
        if not values:
            raise ValueError(f"{name} called on empty list")
        return choose(values)

    return of


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found[0] if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(parts.scheme and parts.netloc) or text.startswith("/")
    except ValueError:
        return False


def _url(text: str) -> dict[str, str]:
    if not _is_url(text):
        raise ValueError(f'URL parse error during conversion from string: parse "{text}": invalid URI for request')
    return {"url": text}


def _host(url: dict[str, str]) -> str:
    return urlsplit(url["url"]).netloc.rpartition("@")[2]


def _hostname(url: dict[str, str]) -> str:
    return urlsplit(url["url"]).hostname or ""


def _port(url: dict[str, str]) -> str:
    port = urlsplit(url["url"]).port
    return "" if port is None else str(port)


def _contains(one: list[Any], other: list[Any]) -> bool:
    return all(value in one for value in other)


FUNCTIONS = (
    method("isSorted", ((LIST,), BOOL, lambda values: all(a <= b for a, b in pairwise(values)))),
    method("sum", ((LIST,), DYN, _sum)),
    method("min", ((LIST,), DYN, _extreme("min", min))),
    method("max", ((LIST,), DYN, _extreme("max", max))),
    method("find", ((STRING, STRING), STRING, _find)),
    method("findAll", ((STRING, STRING), LIST, _find_all), ((STRING, STRING, INT), LIST, _find_all)),
    function("isURL", ((STRING,), BOOL, _is_url)),
    function("url", ((STRING,), OPAQUE, _url)),
    method("getScheme", ((OPAQUE,), STRING, lambda url: urlsplit(url["url"]).scheme)),
    method("getHost", ((OPAQUE,), STRING, _host)),
    method("getHostname", ((OPAQUE,), STRING, _hostname)),
    method("getPort", ((OPAQUE,), STRING, _port)),
    method("getEscapedPath", ((OPAQUE,), STRING, lambda url: urlsplit(url["url"]).path)),
    method("getQuery", ((OPAQUE,), OPAQUE, lambda url: parse_qs(urlsplit(url["url"]).query, keep_blank_values=True))),
    function("sets.contains", ((LIST, LIST), BOOL, _contains)),
    function("sets.equivalent", ((LIST, LIST), BOOL, lambda a, b: _contains(a, b) and _contains(b, a))),
    function("sets.intersects", ((LIST, LIST), BOOL, lambda a, b: any(value in a for value in b))),
)

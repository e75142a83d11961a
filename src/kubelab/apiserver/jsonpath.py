"""The part of JSONPath that CRDs use in printer columns, scale paths and selectable fields.

Owns: parsing and evaluation of `.a.b`, `['a']`, `[0]`, `[-1]`, `[*]`, `.*` and `[?(@.type=="Ready")]`. Comes in: a
path and an object. Goes out: all values found, in order. Source: Kubernetes documentation "JSONPath Support".
"""

import re
from functools import lru_cache
from typing import Any

_TOKEN = re.compile(
    r"""\.(?P<name>[A-Za-z0-9_\-/$*\x00]*)(?=[.\[]|$)
      | \[\?\(\s*@\.(?P<field>[A-Za-z0-9_.\-]+)\s*(?P<op>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]
      | \[(?P<index>-?\d+)\]
      | \[(?P<all>\*)\]
      | \[(?P<quoted>'[^']*'|"[^"]*")\]""",
    re.VERBOSE,
)
Step = tuple[str, str, str]


def find(obj: Any, path: str) -> list[Any]:
    """All values at `path`; empty when there are none. Raises ValueError for a path that cannot be read."""
    nodes = [obj]
    for kind, name, value in parse(path):
        nodes = [found for node in nodes for found in _step(node, kind, name, value)]
    return nodes


@lru_cache(maxsize=1024)
def parse(path: str) -> tuple[Step, ...]:
    """Split into steps (kind, name, value). Raises ValueError."""
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    text = text.replace("\\.", "\0")
    if not text.startswith((".", "[")):
        text = "." + text
    steps: list[Step] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"JSONPath {path!r}: cannot read {text[place:]!r}")
        place = match.end()
        if match["name"] is not None:
            if match["name"]:
                name = match["name"].replace("\0", ".")
                steps.append(("all", "", "") if name == "*" else ("name", name, ""))
        elif match["field"]:
            value = match["value"].strip("\"'")
            steps.append(("equals" if match["op"] == "==" else "differs", match["field"], value))
        elif match["index"]:
            steps.append(("index", match["index"], ""))
        elif match["all"]:
            steps.append(("all", "", ""))
        else:
            steps.append(("name", match["quoted"][1:-1].replace("\0", "."), ""))
    return tuple(steps)


def _step(node: Any, kind: str, name: str, value: str) -> list[Any]:
    match kind:
        case "name":
            return [node[name]] if isinstance(node, dict) and name in node else []
        case "all":
            return list(node.values()) if isinstance(node, dict) else list(node) if isinstance(node, list) else []
        case "index":
            index = int(name)
            return [node[index]] if isinstance(node, list) and -len(node) <= index < len(node) else []
    if not isinstance(node, list):
        return []
    wanted = kind == "equals"
    return [e for e in node if any((_text(f) == value) is wanted for f in find(e, "." + name) or [None])]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

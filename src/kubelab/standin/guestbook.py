"""The front end of Kubernetes' guestbook: a page, and messages that are kept in Redis.

    run.py guestbook      on port 80

The page shows the messages and adds one: the key `messages` has them all, separated by commas, as in the image.
`/guestbook.php?cmd=set&key=K&value=V` writes to the leader, `cmd=get` reads from a follower; their names are those of
the manifests, old and new, or from the environment with GET_HOSTS_FROM=env.
"""

from __future__ import annotations

import posix

from kubelab.standin import client
from kubelab.standin.conversation import Request, Response, dumps, page
from kubelab.standin.server import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PORT = 6379
PAGE = """<form id="form"><input id="entry" placeholder="Messages" autofocus> <button>Submit</button></form>
<p id="problem"></p>
<ul id="messages"></ul>
<script>
const all = document.getElementById("messages"), problem = document.getElementById("problem");
let messages = [];
async function ask(query) {
  const answer = await fetch("guestbook.php?" + query), said = await answer.json();
  problem.textContent = said.error || "";
  return said;
}
function show() {
  all.replaceChildren(...messages.map(text => Object.assign(document.createElement("li"), {textContent: text})));
}
async function load() {
  const said = await ask("cmd=get&key=messages");
  messages = (said.data || "").split(",").filter(text => text);
  show();
}
document.getElementById("form").addEventListener("submit", async event => {
  event.preventDefault();
  const entry = document.getElementById("entry");
  if (!entry.value) return;
  messages.push(entry.value);
  entry.value = "";
  show();
  await ask("cmd=set&key=messages&value=" + encodeURIComponent(messages.map(text => "," + text).join("")));
});
load();
</script>
"""
LEADERS = ("redis-leader", "redis-master")
FOLLOWERS = ("redis-follower", "redis-replica", "redis-slave")


def hosts(names: tuple[str, ...]) -> list[str]:
    """Where to look, in this order."""
    if posix.environ.get(b"GET_HOSTS_FROM") != b"env":
        return list(names)
    variables = (f"{name.upper().replace('-', '_')}_SERVICE_HOST".encode() for name in names)
    return [posix.environ[variable].decode() for variable in variables if variable in posix.environ]


def ask(names: tuple[str, ...], *command: str) -> str:
    """Redis' answer. Raises OSError naming who was asked in vain."""
    problems = []
    for host in hosts(names):
        try:
            return client.redis(host, PORT, *command) or ""
        except OSError as error:
            problems.append(f"{host}: {error}")
    raise OSError("; ".join(problems) or f"no host of {', '.join(names)} in the environment")


def answer(request: Request) -> Response:
    values = request.parameters
    if request.path in ("/", "/index.html"):
        return page("Guestbook", PAGE)
    if request.path != "/guestbook.php":
        return page("Not Found", "", "404 Not Found")
    key = values.get("key", "messages")
    try:
        if values.get("cmd") == "set":
            ask(LEADERS, "SET", key, values.get("value", ""))
            return Response('{"message": "Updated"}')
        if values.get("cmd") == "get":
            return Response(f'{{"data": {dumps(ask(FOLLOWERS, "GET", key))}}}')
    except OSError as error:
        return Response(dumps({"error": str(error)}), "500 Internal Server Error")
    return page("Guestbook", "")


def main(arguments: list[str]) -> NoReturn:
    serve(["80/tcp"], answer, patient=True)

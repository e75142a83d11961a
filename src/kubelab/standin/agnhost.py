"""agnhost of Kubernetes' own tests: netexec, serve-hostname, connect, pause, and what a name server says.

    run.py agnhost netexec [--http-port 8080] [--udp-port 8081]
    run.py agnhost serve-hostname [--http|--tcp|--udp] [--port 9376]
    run.py agnhost connect HOST:PORT [--timeout 1s] [--protocol tcp|udp]
    run.py agnhost pause | fake | dns-suffix | dns-server-list | etc-hosts

Other subcommands are refused by name. Source: test/images/agnhost/README.md of Kubernetes.
"""

from __future__ import annotations

import _socket
import posix
import sys
import time

from kubelab.standin import client, pause
from kubelab.standin.conversation import Request, Response, dumps, to_json
from kubelab.standin.flags import Flags
from kubelab.standin.server import Words, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from kubelab.standin.conversation import Json

TEXT = "text/plain; charset=utf-8"


def hostname() -> str:
    return posix.uname().nodename


def netexec(request: Request) -> Response:
    values, talk = request.parameters, request.talk
    form = Request(talk, "GET", f"/?{request.body.decode('latin-1')}", request.version, {}, b"").parameters
    values = {**values, **(form if request.method == "POST" else {})}
    address = f"[{talk.peer[0]}]" if ":" in talk.peer[0] else talk.peer[0]
    match request.path.rstrip("/") or "/":
        case "/":
            return Response(f"NOW: {time.strftime('%Y-%m-%d %H:%M:%S +0000 UTC', time.gmtime())}", kind=TEXT)
        case "/clientip":
            return Response(f"{address}:{talk.peer[1]}", kind=TEXT)
        case "/hostname" | "/hostName":
            return Response(hostname(), kind=TEXT)
        case "/echo":
            return Response(values.get("msg", ""), _status(values.get("code", "200")), TEXT)
        case "/header":
            key = values.get("key", "")
            return (
                Response(request.headers.get(key.lower(), ""), kind=TEXT) if key else Response(to_json(request.headers))
            )
        case "/healthz" | "/readyz":
            return Response("", kind=TEXT)
        case "/redirect":
            return Response("", _status(values.get("code", "302")), TEXT, [("Location", values.get("location", "/"))])
        case "/shell":
            return _shell(values.get("shellCommand", "") or values.get("cmd", ""))
        case "/dial":
            return _dial(values)
        case "/exit" | "/shutdown":
            posix._exit(int(values.get("code", "0") or 0))
    return Response("404 page not found\n", "404 Not Found", TEXT)


def _status(code: str) -> str:
    return f"{code} {'OK' if code == '200' else 'Status'}" if code.isdecimal() and len(code) == 3 else "400 Bad Request"


def _shell(command: str) -> Response:
    import subprocess  # only who asks for it pays for it

    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    fields: dict[str, Json] = {"output": done.stdout + done.stderr}
    if done.returncode:
        fields["error"] = f"exit status {done.returncode}"
    return Response(dumps(fields))


def _dial(values: dict[str, str]) -> Response:
    host, port, request = values.get("host", ""), values.get("port", ""), values.get("request", "")
    protocol, tries = values.get("protocol", "http"), values.get("tries", "1")
    if not host or not port.isdecimal() or not request or not tries.isdecimal() or protocol not in ("http", "udp"):
        text = f"dial: host {host!r}, port {port!r}, request {request!r}, protocol {protocol!r}, tries {tries!r}"
        return Response(f"{text}: host, port and request are needed, protocol is http or udp", "400 Bad Request", TEXT)
    responses: list[Json] = []
    errors: list[Json] = []
    good = False
    for _ in range(int(tries)):
        try:
            text = _ask_udp(host, int(port), request) if protocol == "udp" else _ask_http(host, int(port), request)
            responses.append(text)
            good = True
        except OSError as error:
            errors.append(str(error))
            good = False
    fields: dict[str, Json] = {"responses": responses}
    if errors:
        fields["errors"] = errors
    return Response(dumps(fields), "200 OK" if good else "417 Expectation Failed", TEXT)


def _ask_http(host: str, port: int, request: str) -> str:
    status, body = client.get(host, port, f"/{request.lstrip('/')}")
    if status >= 400:
        raise OSError(f"status {status}")
    return body.decode(errors="replace")


def _ask_udp(host: str, port: int, request: str) -> str:
    family, kind, protocol, _, address = _socket.getaddrinfo(host, port, 0, _socket.SOCK_DGRAM)[0]
    sock = _socket.socket(family, kind, protocol)
    try:
        sock.settimeout(client.TIMEOUT)
        sock.connect(address)
        sock.send(request.encode())
        return sock.recv(65535).decode(errors="replace")
    finally:
        sock.close()


def datagram(data: bytes, peer: tuple[str, int]) -> bytes:
    """What netexec says on UDP: to hostname, clientip and echo."""
    word, _, rest = data.decode(errors="replace").strip().partition(" ")
    address = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    answers = {"hostname": hostname(), "echo": rest, "clientip": f"{address}:{peer[1]}"}
    return answers.get(word.lower(), "").encode()


def connect(flags: Flags) -> NoReturn:
    """Tries a connection; status 1 and one word (TIMEOUT, REFUSED, DNS, OTHER) when there is none."""
    host, port = client.split((flags.rest or [""])[0], 80)
    number = flags.get("timeout") or "1s"
    seconds = float(number[:-2]) / 1000 if number.endswith("ms") else float(number.rstrip("s"))
    try:
        if flags.get("protocol") == "udp":
            _ask_udp(host, port, "hostname")
        else:
            client.connect(host, port, seconds).close()
    except TimeoutError:
        _fail("TIMEOUT")
    except ConnectionRefusedError:
        _fail("REFUSED")
    except _socket.gaierror:
        _fail("DNS")
    except OSError:
        _fail("OTHER")
    raise SystemExit(0)


def _fail(word: str) -> NoReturn:
    posix.write(2, f"{word}\n".encode())
    raise SystemExit(1)


def resolver(word: str) -> str:
    """The values of a line of /etc/resolv.conf, with commas."""
    with open("/etc/resolv.conf") as file:
        lines = [line.split() for line in file if line.split()[:1] == [word]]
    return ",".join(value for line in lines for value in line[1:])


def main(arguments: list[str]) -> None:
    name = arguments[0] if arguments else "pause"
    flags = Flags(arguments[1:], ("tcp", "udp", "http", "close"))
    if name == "netexec":
        http, udp = flags.get("http-port", "http"), flags.get("udp-port", "udp")
        places = [f"{http or '8080'}/tcp", *([] if udp == "-1" else [f"{udp or '8081'}/udp"])]
        serve(places, netexec, Words(datagram), patient=True)
    if name == "serve-hostname":
        port, raw = flags.get("port") or "9376", flags.on("tcp") or flags.on("udp")
        kinds = [kind for kind in ("tcp", "udp") if flags.on(kind)] or ["tcp"]
        words = Words(lambda data, peer: hostname().encode(), hostname().encode() if raw else b"")
        serve([f"{port}/{kind}" for kind in kinds], lambda request: Response(hostname(), kind=TEXT), words)
    if name == "connect":
        connect(flags)
    if name in ("pause", "fake"):
        pause.wait()
    if name in ("dns-suffix", "dns-server-list"):
        posix.write(1, f"{resolver('search' if name == 'dns-suffix' else 'nameserver')}\n".encode())
        return
    if name == "etc-hosts":
        with open("/etc/hosts") as file:
            posix.write(1, file.read().encode())
        return
    sys.stderr.write(f"agnhost {name}: this stand-in has netexec, serve-hostname, connect, pause, dns-suffix, "
                     "dns-server-list, etc-hosts\n")  # fmt: skip
    raise SystemExit(1)

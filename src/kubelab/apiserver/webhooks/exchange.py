"""One HTTP exchange over TLS.

Comes in: a connection, a request. Goes out: status and body. HTTP is h11's; a connection serves one exchange, as who
stands behind a Service may be somebody else at the next.
"""

import asyncio
import ssl
from dataclasses import dataclass

import h11

MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, target: str, body: bytes
) -> Answer:
    """POST `body`. Raises OSError, h11.RemoteProtocolError for what is no HTTP, ValueError for too much of it."""
    connection = h11.Connection(our_role=h11.CLIENT)
    headers = [
        ("Host", host),
        ("User-Agent", "kube-apiserver-admission"),
        ("Accept", "application/json, */*"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    request = h11.Request(method="POST", target=target, headers=headers)
    for part in (request, h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(part) or b"")
    await writer.drain()
    status, parts, size = 0, [], 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_ANSWER:
                raise ValueError(f"the answer is larger than {MAX_ANSWER} bytes")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, b"".join(parts))


def tls_context(bundle: bytes) -> ssl.SSLContext:
    """Trusts `bundle` (PEM); without one, what the machine trusts. Raises ssl.SSLError for what is no certificate."""
    context = ssl.create_default_context(cadata=bundle.decode("ascii", "replace") if bundle else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context

"""How the name server is connected to the API server."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

from kubelab.apiserver.tls import Authority
from kubelab.dns.watch import ApiServer


def test_a_server_that_is_gone_without_a_word_is_noticed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            peer, _ = listener.accept()
            with authority.server_context(["127.0.0.1"]).wrap_socket(peer, server_side=True) as tls:
                tls.recv(1)

        greeter = threading.Thread(target=greet)
        greeter.start()
        connection = ApiServer("127.0.0.1", listener.getsockname()[1], tmp_path).connect()
        sock = connection.sock
        assert isinstance(sock, ssl.SSLSocket)
        options = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        options += [sock.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
        probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        connection.close()
        greeter.join()
    assert options[0] == 1
    assert options[1] + options[2] * probes <= 30

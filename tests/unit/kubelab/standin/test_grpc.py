"""The health protocol against a real gRPC client, which compresses headers and refers to them by its table."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from unit.kubelab.standin.programs import TIMEOUT, running

SERVING = b"\x08\x01"


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    with running("server", ["0/tcp"]) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as made:
        yield made


def test_every_service_is_serving_again_and_again(channel: grpc.Channel) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    for message in (b"", b"\x0a\x03any", b"", b""):
        assert check(message, timeout=TIMEOUT) == SERVING


def test_a_watch_goes_on(channel: grpc.Channel) -> None:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=TIMEOUT)
    assert next(watch) == SERVING
    assert watch.is_active()
    watch.cancel()


@pytest.mark.parametrize("method", ["/hipstershop.CartService/GetCart", "/grpc.health.v1.Health/Checks", "/a/b"])
def test_other_methods_are_not_there(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(method)(b"x" * 100_000, timeout=TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_after_the_health_protocol_other_methods_are_still_not_there(channel: grpc.Channel) -> None:
    channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=TIMEOUT)
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/s/m")(b"", timeout=TIMEOUT)

"""Whose a network namespace is: cookies of endpoints that come, go, and take over numbers."""

from collections.abc import Iterator
from itertools import count

import msgspec
import pytest
from unit.hubble.world import HOST_COOKIE, endpoint

from cilium.datapath.netlink.netns import NamespaceError
from cilium.hubble.namespaces import Namespaces
from cilium.tables.endpoints import Endpoint


class Kernel:
    """Namespaces by path. Every new one gets a new cookie."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(100)
        self.cookies: dict[str, int] = {}
        self.asked: list[str] = []

    def make(self, pod: Endpoint) -> int:
        self.cookies[pod.netns] = cookie = next(self._numbers)
        return cookie

    def cookie_at(self, path: str) -> int:
        self.asked.append(path)
        if path not in self.cookies:
            raise NamespaceError(f"network namespace {path}: No such file or directory")
        return self.cookies[path]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def namespaces(kernel: Kernel) -> Namespaces:
    return Namespaces(cookie_at=kernel.cookie_at, own=lambda: HOST_COOKIE)


async def test_a_pod_is_known_from_its_coming_on_and_after_its_going(kernel: Kernel, namespaces: Namespaces) -> None:
    pod = endpoint(10, "client", "10.0.1.10")
    cookie = kernel.make(pod)
    namespaces.learn(pod)
    assert namespaces.unread
    assert namespaces.endpoint(cookie) is None
    await namespaces.settle()
    assert not namespaces.unread
    assert namespaces.endpoint(cookie) == pod
    namespaces.forget(10)
    assert namespaces.endpoint(cookie) == pod


async def test_a_row_that_changes_is_not_asked_for_again(kernel: Kernel, namespaces: Namespaces) -> None:
    pod = endpoint(10, "client")
    cookie = kernel.make(pod)
    namespaces.learn(pod)
    await namespaces.settle()
    moved = msgspec.structs.replace(pod, ifindex=9)
    namespaces.learn(moved)
    assert not namespaces.unread
    assert namespaces.endpoint(cookie) == moved
    assert len(kernel.asked) == 1


async def test_a_number_that_is_given_to_another_pod(kernel: Kernel, namespaces: Namespaces) -> None:
    first, second = endpoint(10, "first"), endpoint(10, "second")
    cookies = [kernel.make(first), kernel.make(second)]
    for pod in (first, second):
        namespaces.learn(pod)
        await namespaces.settle()
    assert [namespaces.endpoint(cookie) for cookie in cookies] == [first, second]


async def test_a_pod_that_went_before_it_was_asked(kernel: Kernel, namespaces: Namespaces) -> None:
    namespaces.learn(endpoint(10, "gone"))
    namespaces.forget(10)
    namespaces.learn(endpoint(11, "vanished"))
    await namespaces.settle()
    assert not namespaces.unread
    assert kernel.asked == ["/run/netns/vanished"]


def test_the_node_itself(namespaces: Namespaces) -> None:
    node = Endpoint(id=65535, kind="host", addresses=())  # type: ignore[arg-type]
    namespaces.learn(node)
    assert namespaces.endpoint(HOST_COOKIE) == node


def test_a_kernel_without_cookies_knows_nobody() -> None:
    def refuse() -> int:
        raise NamespaceError("cookie of the network namespace: Protocol not available")

    namespaces = Namespaces(own=refuse)
    namespaces.learn(Endpoint(id=65535, kind="host", addresses=()))  # type: ignore[arg-type]
    assert namespaces.endpoint(0) is None

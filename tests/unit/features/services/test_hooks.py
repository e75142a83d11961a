"""The programs in the sockets' way: attached, and taken out when nobody wants them."""

from __future__ import annotations

from typing import Any

from cilium.features.services.hooks import SocketHookOps
from cilium.features.services.rows import HOOKS


class Links:
    def __init__(self) -> None:
        self.there: dict[str, int] = {"connect4": 10, "foreign": 1}

    def attach(self, name: str, attach_type: int, program: Any) -> bool:
        if program == "broken":
            raise OSError("refused")
        self.there[name] = attach_type
        return True

    def detach(self, name: str) -> None:
        self.there.pop(name, None)


def test_hooks_are_attached_and_taken_out() -> None:
    links, programs = Links(), {hook.program: "good" for hook in HOOKS}
    operations = SocketHookOps(links=links, programs=programs | {"sock_recvmsg6": "broken"}, known=HOOKS)  # type: ignore[arg-type]  # a fake's programs are words
    assert list(operations.update(HOOKS)) == ["recvmsg6"]
    assert len(links.there) == len(HOOKS)
    operations.prune([])
    assert links.there == {"foreign": 1}

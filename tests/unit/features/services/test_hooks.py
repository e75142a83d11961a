"""The programs in the sockets' way: attached, and taken out when nobody wants them."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

from cilium.datapath.fakes.maps import FakeMap
from cilium.features.services import socket_cell
from cilium.features.services.hooks import SocketHookOps
from cilium.features.services.rows import HOOKS, SocketHook
from cilium.settings.service_groups import ServiceSettings
from cilium.state import Table


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


def rows(**settings: bool) -> tuple[set[str], bool]:
    """Names of the hooks, and whether sockets are ended."""
    made = FakeMap("cilium_lb_reverse")
    tables: Any = {name: Table(name, key=lambda row: row.key) for name in ("frontends", "endpoint_slices", "endpoints")}
    hooks: Table[str, SocketHook] = Table("socket-hooks", key=lambda row: row.name)
    cell = socket_cell.build(
        settings=ServiceSettings(replacement=True, **settings), links=Links(), programs={}, reverse=made,
        settled=AsyncMock(), hooks=hooks, **tables,
    )  # fmt: skip
    return {row.name for row in hooks.snapshot()}, bool(cell.tasks)


async def test_hooks_by_settings() -> None:
    bind = {"post_bind4", "post_bind6"}
    assert rows() == ({hook.name for hook in HOOKS}, True)
    assert rows(bind_protection=False, terminate_sockets=False) == ({hook.name for hook in HOOKS} - bind, False)
    assert rows(socket=False) == (bind, False)

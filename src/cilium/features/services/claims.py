"""Who gets an address that several want.

In: rows of `frontends` that somebody wants, by owner; nothing here knows how they were computed. Out: for each address
and port the row that stands, with its rivals, and why they do not have it. Better kinds win: an address that the API
server gave is nobody's to take, one that a controller set is better than one that anybody may write. Among equals the
older wins. A redirect of an address takes it from no Service; a redirect of a Service's own addresses takes the place
of the Service, and that is no conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from cilium.state.claims import Claims as Keyed
from cilium.tables.services import REDIRECT_SUFFIX, Frontend, FrontendKey, shown_name

REDIRECT = "LocalRedirect"
RANKS = {"ClusterIP": 1, "NodePort": 1, "LoadBalancer": 2, "ExternalIP": 3, REDIRECT: 4, "HostPort": 5}
Who = tuple[str, str]
"""Kind and namespace/name of an object."""


class Owner(NamedTuple):
    source: str
    """The table in which the claims stand."""
    name: str
    """In that table: namespace/name of a Service; the row's own key, written out, where others computed the row."""


class Verdict(NamedTuple):
    """About one key."""

    row: Frontend
    losers: tuple[Frontend, ...]
    original: Frontend | None = None
    """The row that a redirect took the place of, where it has one and some are not redirected."""


class Claims:
    """Of all owners."""

    def __init__(self) -> None:
        self._keyed: Keyed[FrontendKey, Owner, Frontend] = Keyed()

    def replace(self, owner: Owner, created: str, rows: Iterable[Frontend]) -> set[FrontendKey]:
        """What an owner claims from now on; returns the keys on which a verdict may have changed."""
        best: dict[FrontendKey, Frontend] = {}
        for row in rows:
            key = row.key
            known = best.get(key)
            if known is None or RANKS[row.kind] < RANKS[known.kind]:
                best[key] = row
        return self._keyed.replace(owner, (created, owner.name), best)

    def verdict(self, key: FrontendKey) -> Verdict | None:
        rows = [row for _, row in self._keyed.of(key)]
        if len(rows) < 2:
            return Verdict(rows[0], ()) if rows else None
        served = {row.service for row in rows if row.kind != REDIRECT}
        winner, *others = sorted(
            rows, key=lambda row: 0 if row.kind == REDIRECT and row.service in served else _rank(row)
        )
        losers = tuple(row for row in others if row.service != winner.service)
        rivals = tuple(dict.fromkeys(row.service for row in losers))
        own = (row for row in others if row.service == winner.service and row.kind != REDIRECT)
        original = next(own, None) if winner.skip_netns else None
        return Verdict(msgspec.structs.replace(winner, rivals=rivals), losers, original)


def owner_of(row: Frontend) -> Who:
    """Whose a row is. A redirect of a Service's own addresses bears the Service's name, and is the Service's."""
    if row.kind == "HostPort":
        return "Pod", row.service
    if row.service.endswith(REDIRECT_SUFFIX):
        return "CiliumLocalRedirectPolicy", shown_name(row.service)
    return "Service", row.service


def explain(winner: Frontend, loser: Frontend) -> tuple[str, str]:
    """What is claimed in vain, and why."""
    address = "node port" if loser.address.is_unspecified else str(loser.address)
    kind, name = owner_of(winner)
    owner = name if kind == "Service" else f"{kind} {name}"
    why = "which is older" if _rank(winner) == _rank(loser) else f"whose {winner.kind} it is"
    return f"{address} {loser.port}/{loser.protocol}", f"belongs to {owner}, {why}; choose another"


def _rank(row: Frontend) -> int:
    return RANKS[row.kind]

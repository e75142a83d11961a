"""Tables that identity management owns."""

from __future__ import annotations

import msgspec

from cilium.tables.types import Identity, Labels


class IdentityRequest(msgspec.Struct, frozen=True):
    """Desired table `identity-requests`, key `labels`: a CiliumIdentity that an endpoint here needs and nobody made.

    `candidate` follows from the labels alone, so nodes that need the same identity at once ask for the same name and
    the API server lets one of them create it.
    """

    labels: Labels
    candidate: Identity

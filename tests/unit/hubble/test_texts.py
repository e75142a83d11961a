"""The words for reasons: as upstream's users know them."""

import pytest

from cilium.hubble.texts import drop_reason


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("POLICY_DENIED", "Policy denied"),
        ("POLICY_DENY", "Policy denied by denylist"),
        ("SERVICE_BACKEND_NOT_FOUND", "Service backend not found"),
        ("IS_A_CLUSTERIP", "Is a ClusterIP"),
        ("DENIED_BY_LB_SRC_RANGE_CHECK", "Denied by LB src range check"),
        ("NO_MAPPING_FOR_NAT_MASQUERADE", "No mapping for NAT masquerade"),
        ("UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP", "Unsupported protocol for DSR encap"),
    ],
)
def test_drop_reasons(name: str, expected: str) -> None:
    assert drop_reason(name) == expected

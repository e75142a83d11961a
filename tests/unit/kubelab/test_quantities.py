"""Quantities, held against what Kubernetes' own type makes of them."""

from decimal import Decimal

import pytest

from kubelab.quantities import canonical, quantity, quantity_text, thousandths, whole

CANONICAL = {
    "0": "0", "0Mi": "0", "-0": "0", "1.5": "1500m", "0.1": "100m", ".5": "500m", "5.": "5", "+7": "7", "100m": "100m",
    "1000m": "1", "1024": "1024", "1000": "1k", "12000k": "12M", "1024Mi": "1Gi", "1000Mi": "1000Mi", "1.5Gi": "1536Mi",
    "0.5Ki": "512", "0.5Mi": "512Ki", "2Ei": "2Ei", "3E": "3E", "1e3": "1e3", "1E3": "1e3", "12e4": "120e3",
    "1.1e3": "1100", "1e-3": "1e-3", "123e-1": "12300e-3", "5u": "5u", "0.1n": "1n", "1.0000000001": "1000000001n",
    "-1.5": "-1500m", "-2048Ki": "-2Mi", "0.3Ki": "307200m", "9223372036854775807": "9223372036854775807",
}  # fmt: skip


@pytest.mark.parametrize(("text", "kept"), CANONICAL.items())
def test_canonical_form(text: str, kept: str) -> None:
    assert canonical(text) == kept
    assert canonical(kept) == kept


@pytest.mark.parametrize(
    "text", ["", "abc", "1x", "--1", "1 Gi", "1gi", "1K", "1mi", ".", "1e", "e3", "1.2.3", "1e3Mi"]
)
def test_what_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="no resource quantity"):
        quantity(text)


def test_resource_lists_are_rounded_up_to_thousandths() -> None:
    assert [canonical(text, finest=-3) for text in ("0.0001", "0.1Ki", "5n", 2, 0.25)] == [
        "1m",
        "102400m",
        "1m",
        "2",
        "250m",
    ]


def test_numbers() -> None:
    assert quantity("1.5Gi") == 3 * (1 << 29)
    assert [whole("1500m"), whole("-1500m"), whole("2Ki")] == [2, -1, 2048]
    assert [thousandths("0.0001"), thousandths("2"), thousandths("1500u")] == [1, 2000, 2]
    assert quantity_text(Decimal(3 << 30), binary=True) == "3Gi"
    assert quantity_text(Decimal("0.25"), binary=True) == "250m"
    assert quantity_text(Decimal(1000), binary=True) == "1k"

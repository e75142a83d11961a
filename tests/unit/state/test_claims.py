"""Several owners of one key: who gets it, and what a change touches."""

from __future__ import annotations

from cilium.state.claims import Claims


def test_the_first_in_order_gets_a_key_and_the_next_takes_over() -> None:
    claims: Claims[str, str, str] = Claims()
    assert claims.replace("young", 2, {"a": "young's a", "b": "young's b"}) == {"a", "b"}
    assert claims.replace("old", 1, {"a": "old's a"}) == {"a"}
    assert claims.of("a") == [("old", "old's a"), ("young", "young's a")]
    assert claims.changes(["a"]).upserts == ["old's a"]
    assert claims.drop("old") == {"a"}
    assert claims.changes(["a"]).upserts == ["young's a"]


def test_replacing_touches_what_was_and_what_is() -> None:
    claims: Claims[str, str, int] = Claims()
    claims.replace("one", 0, {"a": 1, "b": 2})
    assert claims.replace("one", 0, {"b": 3, "c": 4}) == {"a", "b", "c"}
    changes = claims.changes(["a", "b", "c"])
    assert (changes.upserts, changes.deletes) == ([3, 4], ["a"])
    assert claims.keys_of("one") == ("b", "c")
    assert "a" not in claims
    assert "b" in claims


def test_an_owner_may_change_its_place() -> None:
    claims: Claims[str, str, str] = Claims()
    claims.replace("x", 1, {"a": "x"})
    claims.replace("y", 2, {"a": "y"})
    claims.replace("x", 3, {"a": "x"})
    assert [owner for owner, _ in claims.of("a")] == ["y", "x"]


def test_nothing_is_left_of_an_owner_that_claims_nothing() -> None:
    claims: Claims[str, str, str] = Claims()
    assert claims.drop("nobody") == set()
    claims.replace("x", 1, {"a": "x"})
    claims.drop("x")
    assert claims.of("a") == []
    assert claims.keys_of("x") == ()
    assert claims.changes(["a"]).deletes == ["a"]

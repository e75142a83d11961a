"""Members and selectors, whichever comes first."""

from __future__ import annotations

from cilium.features.policy.selectors import SelectorCache
from cilium.tables.rules import Requirement, Selector

WEB, API = ("k8s:app=web", "k8s:tier=front"), ("k8s:app=api",)


def selector(*terms: tuple[str, str] | tuple[str, str, tuple[str, ...]]) -> Selector:
    return Selector(tuple(Requirement(*term) for term in terms))


def test_selectors_find_members_and_members_find_selectors() -> None:
    cache = SelectorCache()
    cache.upsert(1, WEB)
    early = cache.acquire(selector(("k8s:app", "In", ("web", "db"))))
    cache.upsert(2, API)
    late = cache.acquire(selector(("any:app", "Exists")))
    rest = cache.acquire(selector(("k8s:app", "NotIn", ("web",))))
    every = cache.acquire(Selector())
    assert [list(cache.members(n)) for n in (early, late, rest, every)] == [[1], [1, 2], [2], [1, 2]]
    assert sorted(cache.selecting(1)) == [early, late, every]
    assert sorted(cache.selecting(2)) == [late, rest, every]
    assert cache.selecting(3) == []


def test_new_labels_move_a_member() -> None:
    cache = SelectorCache()
    web, front = cache.acquire(selector(("k8s:app", "In", ("web",)))), cache.acquire(selector(("k8s:tier", "Exists")))
    assert cache.upsert(1, WEB)
    assert not cache.upsert(1, WEB)
    assert cache.upsert(1, API)
    assert not cache.members(web)
    assert not cache.members(front)
    assert cache.remove(1)
    assert not cache.remove(1)
    assert list(cache.members(cache.acquire(Selector()))) == []


def test_a_selector_is_shared_until_its_last_user_leaves() -> None:
    cache = SelectorCache()
    cache.upsert(1, WEB)
    first, second = cache.acquire(selector(("k8s:app", "Exists"))), cache.acquire(selector(("k8s:app", "Exists")))
    assert first == second
    cache.release(first)
    assert list(cache.members(second)) == [1]
    assert cache.selecting(1) == [second]
    cache.release(second)
    assert cache.selecting(1) == []


def test_a_label_without_a_value_has_the_empty_value() -> None:
    cache = SelectorCache()
    cache.upsert(1, ("reserved:host",))
    assert list(cache.members(cache.acquire(selector(("reserved:host", "In", ("",)))))) == [1]


def test_any_source_is_no_wildcard_for_what_only_the_engine_knows() -> None:
    cache = SelectorCache()
    cache.upsert(1, ("cidr:10.0.0.0/8", "named-port:http/6=80"))
    assert not cache.members(cache.acquire(selector(("any:http/6", "Exists"))))
    assert not cache.members(cache.acquire(selector(("any:10.0.0.0/8", "Exists"))))

"""What stands beside a service's row: flags, affinity, source ranges, pods that mean the address itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from unit.features.services.mapped import World, changed, end, outside, ranges, row

from cilium.datapath.generated import ServiceFlags as Flags
from cilium.tables.services import Algorithm, Forwarding, Frontend

WEB = outside("192.0.2.1", "10.0.0.1", "10.0.0.2", algorithm=Algorithm.RANDOM)


def has(base: Frontend, **fields: Any) -> Frontend:
    return msgspec.structs.replace(base, **fields)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({}, Flags(0)),
        ({"local": True}, Flags.LOCAL),
        ({"forwarding": Forwarding.DSR}, Flags.DSR),
        ({"algorithm": Algorithm.MAGLEV}, Flags.MAGLEV),
        ({"algorithm": Algorithm.MAGLEV, "backends": ()}, Flags(0)),
        ({"kind": "HostPort"}, Flags.HOST_PORT),
        ({"kind": "LocalRedirect"}, Flags.REDIRECT),
        (ranges("10.0.0.0/8"), Flags.SOURCE_CHECK),
        (ranges("10.0.0.0/8") | {"source_deny": True}, Flags.SOURCE_CHECK | Flags.SOURCE_DENY),
        ({"source_deny": True}, Flags(0)),
    ],
)
def test_flags(world: World, fields: dict[str, Any], flags: Flags) -> None:
    assert not world.update(has(WEB, **fields))
    assert world.flags(WEB) == flags


@pytest.mark.parametrize("ip", ["0.0.0.0", "::"])
def test_a_node_port_is_any_address(world: World, ip: str) -> None:
    port = row(ip, port=30080)
    world.update(port)
    assert world.flags(port) == Flags.NODE_PORT
    assert port.scope == "cluster"


def test_inside_nobody_needs_a_table(world: World) -> None:
    inside = has(row("10.96.0.1", "10.0.0.1"), algorithm=Algorithm.MAGLEV)
    world.update(inside)
    assert world.flags(inside) == Flags(0)
    assert world.table(inside) == []


# ---------------------------------------------------------------------------------------------------------- affinity


def test_clients_stay_with_backends_that_get_new_connections(world: World) -> None:
    sticky = changed(WEB, end("10.0.0.1", weight=2), end("10.0.0.2"), end("10.0.0.3", terminating=True),
                     affinity_timeout=60)  # fmt: skip
    assert not world.update(sticky)
    assert world.written == ["update backends", "update slots", "update affinity_match", "update services"]
    assert world.value(WEB)["affinity_timeout"] == 60
    assert world.matches(WEB) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert not world.update(has(sticky, backends=(end("10.0.0.2"), end("10.0.0.4"))))
    assert world.written == [
        "update backends", "update slots", "update affinity_match", "update services", "delete affinity_match",
        "update backends",
    ]  # fmt: skip
    assert world.matches(WEB) == ["10.0.0.2:8080", "10.0.0.4:8080"]


def test_affinity_comes_changes_and_goes(world: World) -> None:
    world.update(WEB)
    number = world.id(WEB)
    world.update(has(WEB, affinity_timeout=10))
    assert (world.value(WEB)["affinity_timeout"], len(world.matches(WEB))) == (10, 2)
    world.update(has(WEB, affinity_timeout=20))
    assert world.written == ["update services"]
    world.update(WEB)
    assert (world.value(WEB)["affinity_timeout"], world.matches(WEB)) == (0, [])
    assert world.id(WEB) == number


# ------------------------------------------------------------------------------------------------------ source ranges


def asked(world: World, *ips: str) -> list[bool]:
    return [world.asks(WEB, ip) for ip in ips]


def test_only_those_in_the_ranges_may_ask(world: World) -> None:
    assert not world.update(has(WEB, **ranges("10.0.0.0/8", "192.0.2.128/25", "fd00::/8")))
    assert world.written[-2:] == ["update source_ranges", "update services"], "closed from the first moment on"
    assert asked(world, "10.1.2.3", "192.0.2.129", "192.0.2.1", "fd00::1") == [True, True, False, False]
    assert len(world.ranges) == 2, "nobody asks an IPv4 address from an IPv6 one"


def test_ranges_of_ipv6(world: World) -> None:
    six = outside("2001:db8::1", "fd00::1", **ranges("2001:db8:1::/48", "10.0.0.0/8"))
    world.update(six)
    assert [world.asks(six, ip) for ip in ("2001:db8:1::9", "2001:db8:2::9", "10.0.0.1")] == [True, False, False]


class Watched:
    """What a client is told after every single write."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *ips: str) -> None:
        self.seen: set[tuple[bool, ...]] = set()
        for port in (world.services, world.ranges):
            for verb in ("update", "delete"):
                write = getattr(port, verb)

                def observed(*columns: Any, write: Any = write) -> None:
                    write(*columns)
                    self.seen.add(tuple(world.asks(WEB, ip) for ip in ips))

                monkeypatch.setattr(port, verb, observed)


def test_from_one_list_to_another_nobody_is_shut_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.update(has(WEB, **ranges("10.0.0.0/8", "172.16.0.0/12")))
    watched = Watched(world, monkeypatch, "10.0.0.1", "198.51.100.1")
    world.update(has(WEB, **ranges("10.0.0.0/8", "192.168.0.0/16")))
    assert watched.seen == {(True, False)}
    assert asked(world, "192.168.0.1", "172.16.0.1") == [True, False]


def test_a_list_goes_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.update(has(WEB, **ranges("10.0.0.0/8")))
    watched = Watched(world, monkeypatch, "10.0.0.1")
    world.update(WEB)
    assert watched.seen == {(True,)}
    assert len(world.ranges) == 0


@pytest.mark.parametrize("deny", [True, False])
def test_from_allowed_to_denied_and_back_nothing_opens_or_closes_between(
    world: World, monkeypatch: pytest.MonkeyPatch, deny: bool
) -> None:
    before = has(WEB, **ranges("10.0.0.0/8"), source_deny=not deny)
    after = has(WEB, **ranges("10.1.0.0/16", "198.51.100.0/24"), source_deny=deny)
    ips = ("10.0.0.1", "10.1.0.1", "198.51.100.1", "203.0.113.1")
    world.update(before)
    old, first = tuple(asked(world, *ips)), world.id(WEB)
    watched = Watched(world, monkeypatch, *ips)
    assert not world.update(after)
    new = tuple(asked(world, *ips))
    assert new != old
    assert watched.seen == {old, new}
    assert world.id(WEB) != first, "the one case in which a service gets another id"
    assert len(world.ranges) == 2, "nothing is left under the old one"


# ------------------------------------------------------------------------------------------------------ local redirects


def test_pods_that_mean_the_address_itself(world: World) -> None:
    redirect = has(row("169.254.169.254", "10.0.0.1"), kind="LocalRedirect", skip_netns=(71, 72))
    assert not world.update(redirect, has(outside("169.254.169.254", "10.0.0.1"), skip_netns=(99,)))
    assert world.written.index("update skip") < world.written.index("update services")
    assert [world.skips(redirect, cookie) for cookie in (71, 72, 73, 99)] == [True, True, False, False]
    assert world.flags(redirect) == Flags.REDIRECT
    world.update(has(redirect, skip_netns=(72, 73)))
    assert [world.skips(redirect, cookie) for cookie in (71, 72, 73)] == [False, True, True]
    world.delete(outside("169.254.169.254", "10.0.0.1"))
    assert world.skips(redirect, 72), "who asks from outside has no say in it"
    world.delete(redirect)
    assert len(world.skip) == 0


# -------------------------------------------------------------------------------------------------- deletion, restart

FULL = has(WEB, **ranges("10.0.0.0/8"), affinity_timeout=60)
REDIRECT = has(row("169.254.169.254", "10.0.0.1"), kind="LocalRedirect", skip_netns=(71,))


def lists(world: World) -> list[int]:
    return [len(world.match), len(world.ranges), len(world.skip)]


def test_a_service_takes_its_lists_with_it(world: World) -> None:
    world.update(FULL, REDIRECT)
    assert lists(world) == [2, 1, 1]
    assert not world.delete(FULL, REDIRECT)
    assert lists(world) == [0, 0, 0]
    assert world.written[0] == "delete services", "first nobody may look at them any more"


def test_a_restart_writes_nothing_and_prunes_what_went(world: World) -> None:
    world.update(FULL, REDIRECT, has(FULL, address=row("192.0.2.2").address))
    number = world.id(FULL)
    world.restart()
    assert not world.update(FULL)
    assert world.journal == []
    world.operations.prune([FULL])
    assert lists(world) == [2, 1, 0]
    assert (world.id(FULL), asked(world, "10.0.0.1", "198.51.100.1")) == (number, [True, False])


def test_lists_that_changed_while_nobody_looked(world: World) -> None:
    world.update(FULL, REDIRECT)
    world.restart()
    world.update(has(FULL, **ranges("172.16.0.0/12"), affinity_timeout=0), has(REDIRECT, skip_netns=(72,)))
    assert asked(world, "10.0.0.1", "172.16.0.1") == [False, True]
    assert [world.skips(REDIRECT, cookie) for cookie in (71, 72)] == [False, True]
    assert world.matches(WEB) == []


def test_the_rests_of_a_crash_are_pruned_and_their_ids_not_given_away(world: World) -> None:
    world.update(FULL)
    number = world.id(FULL)
    keys, _ = world.services.dump()
    world.services.delete(keys)
    world.restart()
    fresh = outside("192.0.2.9", "10.0.0.9", algorithm=Algorithm.RANDOM)
    world.update(fresh)
    assert world.id(fresh) != number
    world.operations.prune([fresh])
    assert lists(world) == [0, 0, 0]


def test_a_list_that_others_changed_is_made_good(world: World) -> None:
    world.update(FULL)
    keys, _ = world.ranges.dump()
    world.ranges.delete(keys)
    world.operations.prune([FULL])
    world.update(FULL)
    assert asked(world, "10.0.0.1", "198.51.100.1") == [True, False]


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "fields", "remedy"),
    [
        ("cilium_lb_affinity_match", {"affinity_timeout": 9}, "of 8: raise bpf.lbAffinityMapMax"),
        ("cilium_lb_source_ranges", ranges("10.0.0.0/9", "10.128.0.0/9"), "of 8: raise bpf.lbSourceRangeMapMax"),
    ],
)
def test_a_full_list_is_the_error_of_its_row(world: World, name: str, fields: dict[str, Any], remedy: str) -> None:
    first = [has(WEB, address=row(f"192.0.2.{n}").address, **fields) for n in range(1, 5)]
    plain = has(WEB, address=row("192.0.2.9").address)
    assert not world.update(*first, plain)
    errors = world.update(*first, has(plain, **fields), has(plain, address=row("192.0.2.10").address))
    assert list(errors) == [plain.key]
    assert f"{name} has no room" in str(errors[plain.key])
    assert remedy in str(errors[plain.key])
    assert world.flags(plain) == Flags(0), "it is as it was"
    assert len(world.maps[name]) == 8, "nothing is added for what fails"
    world.delete(first[0])
    assert not world.update(has(plain, **fields))


def test_one_of_two_lists_is_full(world: World) -> None:
    """What was added to the other is taken back."""
    others = [has(WEB, address=row(f"192.0.2.{n}").address, **ranges("10.0.0.0/8")) for n in range(2, 8)]
    world.update(*others)
    greedy = has(WEB, **ranges("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"), affinity_timeout=9)
    assert list(world.update(greedy)) == [WEB.key]
    assert (world.value(WEB), len(world.match), len(world.ranges)) == (None, 0, 6)


def test_skips_have_no_setting(world: World) -> None:
    greedy = has(REDIRECT, skip_netns=(1, 2, 3, 4, 5))
    errors = world.update(greedy)
    assert "cilium_lb_skip has no room for 1 more of 4: let fewer pods" in str(errors[greedy.key])


def test_a_row_that_does_not_fit_leaves_no_lists(world: World) -> None:
    world.update(*(row(f"10.96.0.{n}") for n in range(8)))
    errors = world.update(FULL)
    assert "cilium_lb_services has no room for 1 more of 8: raise bpf.lbMapMax" in str(errors[FULL.key])
    assert lists(world) == [0, 0, 0]
    assert world.number_of("10.0.0.1") == 0


def test_what_cannot_be_added_leaves_the_row_alone(world: World) -> None:
    world.update(WEB)
    world.ranges.fail_next()
    errors = world.update(has(WEB, **ranges("10.0.0.0/8")))
    assert list(errors) == [WEB.key]
    assert asked(world, "198.51.100.1") == [True]
    assert not world.update(has(WEB, **ranges("10.0.0.0/8")))
    assert asked(world, "198.51.100.1") == [False]


def test_what_cannot_be_removed_is_an_error_until_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.update(has(WEB, **ranges("10.0.0.0/8", "172.16.0.0/12")))
    fewer = has(WEB, **ranges("10.0.0.0/8"))
    world.ranges.fail_next()
    assert list(world.update(fewer)) == [WEB.key]
    assert asked(world, "172.16.0.1") == [True]
    assert not world.update(fewer)
    assert asked(world, "172.16.0.1") == [False]


def test_lists_of_a_deleted_service_that_cannot_be_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id is not given to another before nothing is left that bears it."""
    world.update(has(WEB, **ranges("10.0.0.0/8")))
    number = world.id(WEB)
    delete = world.ranges.delete

    def failing(keys: Any) -> None:
        world.ranges.fail_next(len(keys))
        delete(keys)

    monkeypatch.setattr(world.ranges, "delete", failing)
    assert list(world.delete(WEB)) == [WEB.key]
    world.now = 10.0
    other = outside("192.0.2.7", algorithm=Algorithm.RANDOM)
    world.update(other)
    assert world.id(other) != number
    monkeypatch.undo()
    assert not world.delete(WEB), "tried again"
    assert len(world.ranges) == 0


def test_what_was_interrupted_does_not_harm_who_comes_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a service that went is not given away before all that bears it is gone, not even after a surprise."""
    world.update(has(WEB, **ranges("10.0.0.0/8")))
    keys, _ = world.ranges.dump()

    def surprise(_: Any) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(world.ranges, "delete", surprise)
    with pytest.raises(RuntimeError, match="surprise"):
        world.delete(WEB)
    monkeypatch.undo()
    world.ranges.delete(keys)
    other = outside("192.0.2.7", **ranges("172.16.0.0/12"))
    world.update(other)
    assert world.asks(other, "172.16.0.1")


def test_what_fits_in_part_is_taken_back(world: World) -> None:
    others = [has(WEB, address=row(f"192.0.2.{n}").address, **ranges("10.0.0.0/8")) for n in range(2, 8)]
    world.update(WEB, *others)
    three = ranges("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    assert list(world.update(has(WEB, **three))) == [WEB.key]
    assert len(world.ranges) == 6
    assert asked(world, "198.51.100.1") == [True]


def test_an_id_is_used_again_after_a_rest(world: World) -> None:
    world.update(WEB)
    number = world.id(WEB)
    world.delete(WEB)
    first, second = (outside(f"192.0.2.{n}", algorithm=Algorithm.RANDOM) for n in (7, 8))
    world.update(first)
    world.now = 10.0
    world.update(second)
    assert world.id(first) != number == world.id(second)


def test_a_batch_of_many_is_written_in_parts() -> None:
    many = World({"cilium_lb_services": 4096})
    wanted = [has(row("10.96.0.1"), port=port) for port in range(1, 3001)]
    assert not many.update(*wanted)
    assert len(many.services) == 3000
    assert many.written == ["update services"] * 3

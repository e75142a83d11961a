"""Checks across settings: what each value alone cannot know.

In: typed settings. Out: findings that name settings; whoever loaded them turns the names into Helm paths,
flags or files. Every check is a small pure function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import TypeVar

from cilium.settings.findings import Finding
from cilium.settings.model import Settings, by_key, schema
from cilium.settings.network_groups import IpamMode, RoutingMode
from cilium.settings.schema import Entry
from cilium.settings.service_checks import services, tunnel

N = TypeVar("N", IPv4Network, IPv6Network)

MAX_NODE_BLOCKS_BITS = 16
BPF_ROOT = "/sys/fs/bpf"


def families(settings: Settings) -> Iterator[Finding]:
    if not settings.families.ipv4 and not settings.families.ipv6:
        yield Finding(
            "enable-ipv4",
            "both address families are switched off",
            "switch on {enable-ipv4} or {enable-ipv6}",
        )


def _pools(settings: Settings, pools: tuple[N, ...], size: int, family: str) -> Iterator[Finding]:
    pool_key, size_key = f"cluster-pool-{family}-cidr", f"cluster-pool-{family}-mask-size"
    if not pools:
        yield Finding(pool_key, "there is no pool", f"name one or switch off {{enable-{family}}}")
    for pool in pools:
        if size < pool.prefixlen:
            yield Finding(
                size_key,
                f"a node's /{size} does not fit into the pool {pool}",
                f"choose a size from {pool.prefixlen} on or a larger pool in {{{pool_key}}}",
            )
        elif size - pool.prefixlen > MAX_NODE_BLOCKS_BITS:
            yield Finding(
                size_key,
                f"the pool {pool} would have 2^{size - pool.prefixlen} node blocks of /{size}, the limit is "
                f"2^{MAX_NODE_BLOCKS_BITS}",
                f"choose a size up to {pool.prefixlen + MAX_NODE_BLOCKS_BITS} or a smaller pool in {{{pool_key}}}",
            )
    for first, second in itertools.combinations(pools, 2):
        if first.overlaps(second):
            yield Finding(pool_key, f"the pools {first} and {second} overlap", "keep the larger one")


def pools(settings: Settings) -> Iterator[Finding]:
    if settings.ipam.mode is not IpamMode.CLUSTER_POOL:
        return
    if settings.families.ipv4:
        yield from _pools(settings, settings.ipam.ipv4_pools, settings.ipam.ipv4_mask_size, "ipv4")
    if settings.families.ipv6:
        yield from _pools(settings, settings.ipam.ipv6_pools, settings.ipam.ipv6_mask_size, "ipv6")


def native_routing(settings: Settings) -> Iterator[Finding]:
    """One family's CIDR is enough: in the other, masquerading spares what the cluster knows by itself."""
    routing, masquerading = settings.routing, settings.masquerade_ipv4 or settings.masquerade_ipv6
    if routing.mode is RoutingMode.NATIVE and masquerading and not (routing.native_ipv4 or routing.native_ipv6):
        family = "ipv4" if settings.families.ipv4 else "ipv6"
        yield Finding(
            f"{family}-native-routing-cidr",
            "native routing with masquerading needs the CIDR inside which pods keep their addresses",
            f"set it, e.g. to the pods' CIDR, or switch off {{enable-{family}-masquerade}}",
        )


def masquerading(settings: Settings) -> Iterator[Finding]:
    if not settings.masquerade.bpf and (settings.masquerade_ipv4 or settings.masquerade_ipv6):
        yield Finding(
            "enable-bpf-masquerade",
            "masquerading without eBPF is not available in this version",
            "switch it on, or switch off {enable-ipv4-masquerade} and {enable-ipv6-masquerade}",
        )


def mtu(settings: Settings) -> Iterator[Finding]:
    if 0 < settings.routing.mtu < 1280 and settings.families.ipv6:
        yield Finding(
            "mtu",
            f"{settings.routing.mtu} is below 1280, the least IPv6 allows",
            "raise it or switch off {enable-ipv6}",
        )


def cluster(settings: Settings) -> Iterator[Finding]:
    if len(settings.cluster.name) > 32:
        yield Finding("cluster-name", f"'{settings.cluster.name}' is longer than 32 characters", "shorten it")
    if settings.cluster.id:
        yield Finding(
            "cluster-id",
            f"{settings.cluster.id} is a number in a Cluster Mesh, which is not available in this version",
            "set it to 0",
        )


def sizes(settings: Settings) -> Iterator[Finding]:
    capacity, ring = settings.hubble.capacity, settings.events.ring_bytes
    if capacity & (capacity + 1):
        nearest = (1 << capacity.bit_length()) - 1
        yield Finding("hubble-event-buffer-capacity", f"{capacity} is not 2^n - 1", f"set it to {nearest}")
    if ring & (ring - 1):
        yield Finding("bpf-events-ring-size", f"{ring} is no power of two", f"set it to {1 << ring.bit_length()}")
    if settings.maps.nat_max > settings.conntrack.max_entries * 2 // 3 + 1:
        yield Finding(
            "bpf-nat-global-max",
            f"{settings.maps.nat_max} is more than two thirds of the connections that can be tracked",
            "lower it, or raise {bpf-ct-global-tcp-max} or {bpf-ct-global-any-max}",
        )


def pins(settings: Settings) -> Iterator[Finding]:
    if settings.maps.root != BPF_ROOT:
        yield Finding("bpf-root", f"maps and links are pinned in {BPF_ROOT} and nowhere else", "remove it")


def leader(settings: Settings) -> Iterator[Finding]:
    operator = settings.operator
    if not operator.retry_period < operator.renew_deadline < operator.lease_duration:
        yield Finding(
            "leader-election-renew-deadline",
            f"{operator.renew_deadline:g}s must lie between the retry period ({operator.retry_period:g}s) and the "
            f"lease ({operator.lease_duration:g}s)",
            "change it, {leader-election-retry-period} or {leader-election-lease-duration}",
        )


CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    families, pools, native_routing, masquerading, mtu, cluster, sizes, services, tunnel, pins, leader,
)  # fmt: skip


def applies(settings: Settings, entry: Entry) -> bool:
    """Whether a setting means anything beside the others."""
    return all(settings.text(by_key()[key]) == wanted for key, wanted in entry.setting.when.items())


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Settings that somebody changed although others make them void."""
    for entry in schema():
        if settings.value(entry) == entry.default or applies(settings, entry):
            continue
        for key, wanted in entry.setting.when.items():
            actual = settings.text(by_key()[key])
            if actual != wanted:
                yield Finding(
                    entry.setting.key,
                    f"'{settings.text(entry)}' has no effect while {{{key}}} is {actual}",
                    f"remove it or set {{{key}}} to {wanted}",
                )
                break


def check(settings: Settings) -> list[Finding]:
    """Everything contradictory in these settings."""
    return [*(finding for check in CHECKS for finding in check(settings)), *contradictions(settings)]

"""Expectations become probes: every source against every target, port and family that an expectation names.

In: one step's expectations, a resolver. Out: `Probe`s, or WrongTestError with line and reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cilium.connectivity.policy_tests.errors import WrongTestError
from cilium.connectivity.policy_tests.expectations import Expectation, Port
from cilium.connectivity.policy_tests.ground import Asker
from cilium.connectivity.policy_tests.places import Form, Place
from cilium.connectivity.policy_tests.resolve import Asked, Declared, Resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to be asked. `behind`, `target`: addresses and port of the pods that may answer for a Service."""

    asker: Asker
    asked: str
    family: int
    address: str
    protocol: str
    port: int = 0
    path: str = ""
    behind: tuple[str, ...] = ()
    target: int = 0
    shown: str = ""  # the port as people know it

    @property
    def bind(self) -> str:
        return dict(self.asker.bind).get(self.family, "")

    def __str__(self) -> str:
        return f"{self.asker.name} -> {self.asked} {self.shown} IPv{self.family}"


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a report: an expectation between two places, at one port, over one family."""

    expectation: Expectation
    source: Place
    target: Place
    port: str
    family: int
    probes: tuple[Probe, ...]

    @property
    def name_of_families(self) -> str:
        """The name that it shares with the case of the other family."""
        path = f" {self.expectation.path}" if self.expectation.path else ""
        return f"{self.source} -> {self.target} {self.port}{path}"

    @property
    def name(self) -> str:
        return f"{self.name_of_families} IPv{self.family}"


def plan(file: Path, expectations: Iterable[Expectation], resolver: Resolver) -> list[Case]:
    """Raises WrongTestError with all problems."""
    problems: list[str] = []
    cases: list[Case] = []
    for expectation in expectations:
        for source in expectation.sources:
            for target in expectation.targets:
                try:
                    found = list(_cases(expectation, source, target, resolver))
                    if not found:
                        raise LookupError(f"{source} -> {target}: one and the same pod, or no common family")
                    cases += found
                except LookupError as error:
                    problems.append(f"{file}:{expectation.line}: {error.args[0]}")
    if problems:
        raise WrongTestError("\n".join(dict.fromkeys(problems)))
    return cases


def _cases(expectation: Expectation, source: Place, target: Place, resolver: Resolver) -> Iterator[Case]:
    askers = resolver.askers(source)
    outside = askers[0].node == "external"
    asked = resolver.from_outside(target) if outside else resolver.asked(target)
    grouped: dict[tuple[str, int], list[Probe]] = {}
    for one in askers:
        for other in asked:
            if one.name == other.name:
                continue
            for probe in _probes(expectation, one, other, target):
                grouped.setdefault((probe.shown, probe.family), []).append(probe)
    for (port, family), probes in grouped.items():
        yield Case(expectation, source, target, port, family, tuple(probes))


def _probes(expectation: Expectation, one: Asker, other: Asked, target: Place) -> Iterator[Probe]:
    addresses = dict(other.addresses)
    for family in expectation.families:
        if family not in addresses or family not in one.families:
            who = other.name if family not in addresses else one.name
            raise LookupError(f"{who} has no address of IPv{family}")
    families = expectation.families or tuple(family for family in addresses if family in one.families)
    for port, shown in _ports(expectation, other, target):
        for family in families:
            yield Probe(
                asker=one,
                asked=other.name,
                family=family,
                address=addresses[family],
                protocol=port.protocol,
                port=port.ask,
                path=expectation.path if port.protocol == "TCP" else "",
                behind=other.behind,
                target=port.target,
                shown=shown,
            )


def _ports(expectation: Expectation, other: Asked, target: Place) -> list[tuple[Declared, str]]:
    """What is asked, each as the file says it; if it says nothing, everything that the target declares."""
    if expectation.ports:
        return [(_port(port, other, target), str(port)) for port in expectation.ports]
    found = [
        (port, f"{port.number}/{port.protocol}")
        for port in other.ports
        if port.protocol in ("TCP", "UDP") and (not expectation.path or port.protocol == "TCP")
    ]
    if not found:
        raise LookupError(f"{target}: declares no port: say which in ports")
    return found


def _port(port: Port, other: Asked, target: Place) -> Declared:
    """A pod may be asked at ports that it does not declare, a Service at its own only."""
    if port.protocol == "ICMP":
        if other.service:
            raise LookupError(f"{target}: a Service answers no ICMP: name its pods")
        return Declared(0, "ICMP", "", 0, 0)
    for declared in other.ports:
        same = declared.name == port.name if port.name else declared.number == port.number
        if declared.protocol == port.protocol and same:
            return declared
    if port.name or other.service:
        raise LookupError(f"{target}: has no port {port}; it has {', '.join(map(str, other.ports)) or 'none'}")
    return Declared(port.number, port.protocol, "", port.number, port.number)


def places_outside(cases: Iterable[Case]) -> set[tuple[str, int, str]]:
    """(address, port, protocol) that must exist in the world for these probes; port 0: the address alone."""
    found: set[tuple[str, int, str]] = set()
    for case in cases:
        for probe in case.probes:
            if probe.bind:
                found.add((probe.bind, 0, ""))
            if case.target.form in (Form.WORLD, Form.NETWORK):
                icmp = probe.protocol == "ICMP"
                found.add((probe.address, 0 if icmp else probe.port, "" if icmp else probe.protocol.lower()))
    return found

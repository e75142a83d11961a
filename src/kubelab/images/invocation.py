"""What a container executes: its own command, what the registry says for its image, or the generic stand-in.

In: an image, the pod's `command` and `args`, ports, and the registry. Out: an argument list, what to execute when its
first word does not exist, and what the image adds (environment, directory, user). `command` and `args` take the place
of the image's ENTRYPOINT and CMD as in Kubernetes: with a `command` the image's `cmd` is ignored as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubelab.images.programs import GENERIC, find, is_standin, standin_argv
from kubelab.images.registry import Entry, Registry


class ProgramMissingError(Exception):
    """The machine lacks the program that the image's entry names; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a container starts."""

    argv: list[str]
    fallback: list[str] | None = None  # executed when argv[0] does not exist
    environment: dict[str, str] = field(default_factory=dict)  # of the image; the pod's variables win
    ports: tuple[str, ...] = ()  # PORT/protocol: declared by the pod, or else the image's
    working_dir: str = ""
    user: str = ""
    notice: str = ""  # what the pod's owner should know when argv runs
    fallback_notice: str = ""  # the same when the fallback runs

    @property
    def stands_in(self) -> bool:
        """Whether a stand-in runs, or may have to."""
        return self.fallback is not None or is_standin(self.argv)


def resolve(
    registry: Registry,
    image: str,
    command: Sequence[str],
    args: Sequence[str],
    ports: Sequence[str],
    exists: Callable[[str], bool],
) -> Invocation:
    """`exists` tells whether a command is there for containers. Raises ProgramMissingError."""
    entry = registry.find(image)
    if entry is None:
        return _unknown(image, command, args, tuple(ports), exists)
    return _known(entry, image, command, args, tuple(ports))


def _unknown(
    image: str, command: Sequence[str], args: Sequence[str], ports: tuple[str, ...], exists: Callable[[str], bool]
) -> Invocation:
    generic = standin_argv(GENERIC, ports)
    notice = (
        f'Image "{image}" is not in the registry of stand-ins: a generic stand-in runs, which answers on '
        f"{', '.join(ports) if ports else 'no port, as none is declared'}. "
        "To choose a program for it, add an entry to a file and give it to `cilium lab up --images FILE`"
    )
    if command:
        # Without ports a stand-in would hide the mistake.
        return Invocation([*command, *args], generic if ports else None, ports=ports, fallback_notice=notice)
    if args and exists(args[0]):
        return Invocation([*args], generic, ports=ports, fallback_notice=notice)
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if args and name and exists(name):
        return Invocation([name, *args], generic, ports=ports, fallback_notice=notice)
    return Invocation(generic, ports=ports, notice=notice)


def _known(entry: Entry, image: str, command: Sequence[str], args: Sequence[str], ports: tuple[str, ...]) -> Invocation:
    listening = ports or tuple(entry.ports)

    def made(argv: list[str], *, fallback: list[str] | None = None, notice: str = "") -> Invocation:
        told = f'{argv[0]} is not on this machine: what stands in for image "{image}" runs in its place'
        return Invocation(argv, fallback, dict(entry.env), listening, entry.working_dir, entry.user, notice,
                          told if fallback else "")  # fmt: skip

    if command:
        own = _program(entry.standin, args, listening) if entry.standin else None
        return made([*command, *args], fallback=own or (standin_argv(GENERIC, ports) if ports else None))
    arguments = [*(args or entry.cmd)]
    needs = entry.needs
    if needs is not None and find(needs.program) is None:
        if needs.otherwise is None:
            raise ProgramMissingError(
                f'image "{image}": {entry.about} needs {needs.program}, which this machine lacks: '
                f"apt-get install {needs.package}"
            )
        notice = (
            f"{needs.program} is not on this machine (apt-get install {needs.package}): "
            f'the stand-in {needs.otherwise.standin} runs for image "{image}"'
        )
        return made(_program(needs.otherwise.standin, needs.otherwise.args, listening), notice=notice)
    if entry.standin:
        return made(_program(entry.standin, arguments, listening))
    return made([*entry.entrypoint, *arguments])


def _program(standin: str, arguments: Sequence[str], ports: tuple[str, ...]) -> list[str]:
    name, *first = standin.split()
    return standin_argv(name, ports if name == GENERIC else [*first, *arguments])

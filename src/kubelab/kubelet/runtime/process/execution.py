"""Commands inside running containers: entering a container's cgroup and namespaces.

In: the container's first process and what a command gets of its container. Out: argument lists for subprocesses;
output for probes.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubelab.kubelet.answers import answer
from kubelab.kubelet.security import Security


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """How to get into a container; of plain types, because the next kubelet reads it from a file."""

    pid: int
    groups: list[str]  # control groups, cgroup2's first
    environment: dict[str, str]
    cwd: str
    privileges: list[str]  # arguments of setpriv; none: those of root

    def argv(self, command: list[str], *, tty: bool = False) -> list[str]:
        """A command line that runs ``command`` in the container; the environment is the container's.

        On a terminal it must lead a session inside: job control of a shell sees no process groups of outside.
        """
        leader = ["/usr/bin/setsid", "--ctty"] if tty else []
        enter = ["--mount", "--net", "--ipc", "--pid", "--uts", f"--wdns={self.cwd}"]
        script = 'for group in $0; do echo 0 > $group/cgroup.procs || exit; done; exec nsenter "$@"'
        identity = ["/usr/bin/setpriv", *self.privileges] if self.privileges else []
        inside = [*leader, *identity, *command]
        return ["/bin/sh", "-c", script, " ".join(self.groups), f"--target={self.pid}", *enter, "--", *inside]


def privileges(security: Security) -> list[str]:
    """For a command in the container: what the container has."""
    words = []
    if security.uid or security.gid or security.groups != (0,):
        groups = ",".join(map(str, security.groups))
        words += [f"--reuid={security.uid}", f"--regid={security.gid}", f"--groups={groups}"]
    if security.capabilities is not None:
        kept = "".join(f",+{name.lower()}" for name in sorted(security.capabilities))
        words += [f"--bounding-set=-all{kept}", "--inh-caps=-all"]
    return [*words, *(["--no-new-privs"] if security.no_new_privileges else [])]


async def run(inside: Inside, command: list[str], timeout: float) -> tuple[int, str]:
    """Runs a command to its end; (exit code, what it said). A command that takes longer is killed: exit code 124."""
    try:
        done = await answer(inside.argv(command), inside.environment, timeout=timeout, merged=True)
    except TimeoutError:
        return 124, f"no result within {timeout:g} s"
    return done.code, done.out.decode(errors="replace")

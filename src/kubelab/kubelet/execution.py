"""Commands inside running containers: entering a container's cgroup and namespaces.

In: the container's first process and its launch spec. Out: argument lists for subprocesses; output for probes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from kubelab.kubelet.launch import ContainerSpec


def argv(pid: int, spec: ContainerSpec, command: list[str]) -> list[str]:
    """A command line that runs ``command`` in the container; the environment is the spec's."""
    enter = ["--mount", "--net", "--pid", "--uts", f"--wdns={spec.cwd}"]
    script = 'echo 0 > "$0/cgroup.procs" && exec nsenter "$@"'
    identity = [f"--setuid={spec.uid}", f"--setgid={spec.gid}"] if spec.uid or spec.gid else []
    return ["/bin/sh", "-c", script, str(spec.cgroup), f"--target={pid}", *enter, *identity, "--", *command]


async def run(pid: int, spec: ContainerSpec, command: list[str], timeout: float) -> tuple[int, str]:
    """Runs a command to its end; (exit code, what it said). A command that takes longer is killed: exit code 124."""
    process = await asyncio.create_subprocess_exec(
        *argv(pid, spec, command),
        env=spec.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    except (TimeoutError, asyncio.CancelledError) as error:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
        return 124, f"no result within {timeout:g} s"
    return process.returncode or 0, output.decode(errors="replace")

"""`cilium lab test DIR`: the options, the lab it brings up and takes down, the exit status.

0: all as expected. 1: something is not as expected, or could not be decided. 2: the test itself is wrong, or no lab
could be brought up for it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from cilium.cli.cluster.lab.common import unanswered

if TYPE_CHECKING:
    from cilium.connectivity.policy_tests.load import Test
    from cilium.connectivity.policy_tests.report import StepResult
    from cilium.connectivity.policy_tests.run import Options
    from kubelab.lab.lab import Lab

VALUES = {
    "kubeProxyReplacement": True,
    "ipam": {"operator": {"clusterPoolIPv4PodCIDRList": ["198.18.0.0/16"]}},
}
"""For labs of tests: Services work, and pods have addresses of a range that no policy speaks of (RFC 2544)."""


@click.command("test")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "-f", "--filename", "more", multiple=True, type=click.Path(path_type=Path),
    help="More manifests, applied before those of DIRECTORY: a file, or a directory with files. May be repeated.",
)  # fmt: skip
@click.option("--lab", "name", help="Use this lab, which is up, in namespaces that the test makes and removes.")
@click.option("--nodes", default=2, show_default=True, type=click.IntRange(1), help="Nodes of the test's own lab.")
@click.option("--values", type=click.Path(path_type=Path), help="Helm values of its Cilium; values.yaml of DIRECTORY.")
@click.option("--keep", is_flag=True, help="Leave the test's own lab up for a look.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a report in JUnit's XML to this file, too.")
@click.option("--record", is_flag=True, help="Write expectations.yaml from what happens now, where there is none.")
@click.option("--as-is", is_flag=True, help="Run the containers' own commands and probes instead of stand-ins.")
@click.option("--timeout", default=1.0, show_default=True, type=click.FloatRange(0.1), help="Seconds a probe waits.")
@click.option("--patience", default=60.0, show_default=True, type=click.FloatRange(1),
              help="Seconds until pods must be ready and policies enforced.")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Show what is as expected, too.")
def test(
    directory: Path, more: tuple[Path, ...], name: str | None, nodes: int, values: Path | None, keep: bool,
    junit: Path | None, record: bool, as_is: bool, timeout: float, patience: float, verbose: bool,
) -> None:  # fmt: skip
    """Hold policies against expectations: apply the manifests of DIRECTORY in a lab, and see who reaches whom.

    Exit status 0: all as expected; 1: not so; 2: the test is wrong or could not be run.
    """
    from cilium.connectivity.policy_tests.errors import WrongTestError
    from cilium.connectivity.policy_tests.load import load
    from cilium.connectivity.policy_tests.run import Options, check
    from cilium.settings import SettingsError
    from kubelab.lab.errors import LabError

    options = Options(patience=patience, timeout=timeout, as_is=as_is, record=record, shared=name is not None)
    results: list[StepResult] = []
    wrong = ""
    try:
        loaded = load(directory, more)
        check(loaded, options)
        _notes(loaded)
        with _terminated(), _lab(name, nodes, values or loaded.values, keep) as lab:
            _run(loaded, lab, options, results, verbose)
    except (ConnectionError, TimeoutError) as error:
        wrong = unanswered(error)
    except (WrongTestError, LabError, SettingsError, OSError) as error:
        wrong = "\n".join([str(error), *getattr(error, "__notes__", [])])
    if junit is not None:
        from cilium.connectivity.policy_tests.junit import document

        junit.parent.mkdir(parents=True, exist_ok=True)
        junit.write_bytes(document(directory.resolve().name, results, wrong))
    if wrong:
        click.echo(f"Error: {wrong}", err=True)
        sys.exit(2)
    sys.exit(_status(results, options))


def _run(loaded: Test, lab: Lab, options: Options, results: list[StepResult], verbose: bool) -> None:
    from cilium.cli.cluster.lab.ground import LabGround
    from cilium.connectivity.policy_tests.report import step_lines
    from cilium.connectivity.policy_tests.run import run

    for step in run(loaded, LabGround(lab), options):
        results.append(step)
        if options.record:
            click.echo(f"{step.file}: {len(step.cases)} recorded in {step.seconds:.1f} s")
        else:
            click.echo("\n".join(step_lines(step, verbose=verbose)))


def _status(results: list[StepResult], options: Options) -> int:
    from cilium.connectivity.policy_tests.judge import Result
    from cilium.connectivity.policy_tests.report import summary

    if options.record:
        return 1 if any(step.count(Result.ERROR) for step in results) else 0
    click.echo(summary(results))
    return 0 if all(step.count(Result.OK) == len(step.cases) for step in results) else 1


def _notes(loaded: Test) -> None:
    """What of the directory is not applied."""
    from cilium.connectivity.policy_tests.reduce import wanted

    kinds = sorted({one.kind for step in loaded.steps for one in step.manifests if not wanted(one)})
    if kinds:
        click.echo(f"left out, since policies do not see them: {', '.join(kinds)}")


@contextmanager
def _lab(name: str | None, nodes: int, values: Path | None, keep: bool) -> Iterator[Lab]:
    """The lab of that name, or one of the test's own, which goes afterwards. Raises LabError."""
    from cilium.cli.cluster.lab.install import bring_up, load_settings
    from kubelab.lab.errors import LabError
    from kubelab.lab.lab import Lab
    from kubelab.lab.options import LabOptions

    if name is not None:
        if values is not None:
            click.echo(f"lab {name} has the settings that it has: {values} is not used")
        if not Lab(name).status().complete:
            raise LabError(f"lab {name} is not up: cilium lab up --name {name}")
        yield Lab(name)
        return
    own = Lab(f"test-{os.getpid()}")
    started = time.monotonic()
    settings, options = load_settings(values, VALUES), LabOptions(nodes=nodes)
    try:
        bring_up(own, settings, options)
        click.echo(f"lab {own.name}: {nodes} node(s) in {time.monotonic() - started:.1f} s")
        yield own
    finally:
        if keep:
            click.echo(f"lab {own.name} stays: cilium lab env --name {own.name}; cilium lab down --name {own.name}")
        else:
            own.down()


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM, by which CI cancels a job, takes the lab down as an interrupt by key does."""

    def end(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before: Callable[..., object] | int | None = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

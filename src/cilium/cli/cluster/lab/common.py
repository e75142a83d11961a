"""What all commands of `cilium lab` share: the lab's name, errors as messages, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


def complete_lab(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the labs on this machine."""
    from kubelab.lab import state

    return sorted(path.parent.name for path in state.ROOT.glob(f"{incomplete}*/lab.json"))


def complete_node(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the nodes of the lab that was named before."""
    from kubelab.lab import state
    from kubelab.lab.errors import LabError

    given = ctx.params.get("name") or (ctx.parent.params.get("name") if ctx.parent is not None else None)
    try:
        found = state.paths(given or "lab").read()
    except LabError:
        return []
    return [record.name for record in found.nodes if record.name.startswith(incomplete)] if found is not None else []


def complete_component(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the daemons of the lab that was named before."""
    from kubelab.lab import state
    from kubelab.lab.errors import LabError

    try:
        found = state.paths(ctx.params.get("name") or "lab").read()
    except LabError:
        return []
    return [process for process in found.pids if process.startswith(incomplete)] if found is not None else []


NAME_VARIABLE = "CILIUM_LAB"
"""The lab that a shell is about: `cilium lab env` exports it."""
DEFAULT_NAME = "lab"

name_option = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, envvar=NAME_VARIABLE, show_envvar=True,
    help="Name of the lab.", shell_complete=complete_lab,
)  # fmt: skip


@contextmanager
def errors() -> Iterator[None]:
    """Turns the errors that people can mend into one message and exit status 1."""
    from cilium.settings import SettingsError
    from kubelab.lab.errors import LabError

    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise click.ClickException(unanswered(error)) from None
    except (LabError, SettingsError) as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        raise click.ClickException(f"{error}\n{notes}".rstrip()) from None


def unanswered(error: OSError) -> str:
    """That the API server was asked in vain, and what helps."""
    option = named_option()
    return (
        f"the lab's API server does not answer ({error.strerror or error}): cilium lab logs control-plane{option}; "
        f"cilium lab start{option} if it does not run (cilium lab status{option})"
    )


def named_option() -> str:
    """What other commands are given to mean the lab of this one: nothing for the one that is meant anyway."""
    context = click.get_current_context(silent=True)
    name = (context.params.get("name") or context.obj) if context is not None else None
    meant = os.environ.get(NAME_VARIABLE, DEFAULT_NAME)
    return f" --name {name}" if name not in (None, meant) else ""


def progress_since(started: float) -> Callable[[str], None]:
    """Prints what is being done, with the seconds since `started` (of the monotonic clock)."""

    def show(text: str) -> None:
        click.echo(f"{time.monotonic() - started:5.1f} s  {text}")

    return show

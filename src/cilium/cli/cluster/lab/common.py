"""What all commands of `cilium lab` share: the lab's name, errors as messages, progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

name_option = click.option("--name", default="lab", show_default=True, help="Name of the lab.")


@contextmanager
def errors() -> Iterator[None]:
    """Turns the errors that people can mend into one message and exit status 1."""
    from cilium.settings import SettingsError
    from kubelab.lab.errors import LabError

    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        message = f"the lab's API server does not answer ({error}): cilium lab status, cilium lab logs control-plane"
        raise click.ClickException(message) from None
    except (LabError, SettingsError) as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        raise click.ClickException(f"{error}\n{notes}".rstrip()) from None


def progress_since(started: float) -> Callable[[str], None]:
    """Prints what is being done, with the seconds since `started` (of the monotonic clock)."""

    def show(text: str) -> None:
        click.echo(f"{time.monotonic() - started:5.1f} s  {text}")

    return show

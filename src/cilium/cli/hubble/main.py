"""The `hubble` command: a table of contents."""

from __future__ import annotations

from pathlib import Path

import click

from cilium.cli.hubble.config import config, default_path, defaults, load
from cilium.cli.hubble.observe import observe
from cilium.cli.hubble.status import lists, status


@click.group("hubble", context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--config", "path", type=click.Path(path_type=Path), default=default_path, help="File with defaults.")
@click.option("-D", "--debug", is_flag=True, help="Show where errors come from.")
@click.pass_context
def hubble(ctx: click.Context, path: Path, debug: bool) -> None:
    """Observe network flows of pods."""
    ctx.obj = path
    if ctx.invoked_subcommand != "config":
        ctx.default_map = defaults(load(path))


@hubble.command("version")
def version() -> None:
    """Which release this is."""
    from importlib.metadata import version as installed

    click.echo(f"hubble v{installed('cilium')}")


hubble.add_command(observe)
hubble.add_command(status)
hubble.add_command(lists)
hubble.add_command(config)


def main() -> None:
    """Entry point of the `hubble` executable."""
    hubble(prog_name="hubble")


if __name__ == "__main__":
    main()

"""`hubble config`: the file with defaults for flags, `~/.config/hubble/config.yaml`.

Owns: reading and writing that file. Keys are the names of flags; a flag and its environment variable (`HUBBLE_SERVER`)
win over the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

KEYS = (
    "server", "timeout", "request-timeout", "tls", "tls-ca-cert-files", "tls-client-cert-file", "tls-client-key-file",
    "tls-server-name",
)  # fmt: skip


def default_path() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hubble" / "config.yaml"


def load(path: Path) -> dict[str, Any]:
    """The file's settings; none if there is no file. Raises ClickException for what cannot be read."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    import yaml

    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise click.ClickException(f"{path}: {error}") from None
    if not isinstance(settings, dict):
        raise click.ClickException(f"{path}: not a mapping of flags to values")
    for key in settings:
        _known(str(key), f"{path}: ")
    return settings


def defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as click's defaults for every command that asks a server."""
    flags = {key.replace("-", "_"): value for key, value in settings.items()}
    return {
        "observe": {"flows": flags, "agent-events": flags},
        "status": flags,
        "list": {"nodes": flags, "namespaces": flags},
    }


def _known(key: str, where: str = "") -> None:
    if key not in KEYS:
        raise click.ClickException(f"{where}{key!r} is no setting; known: {', '.join(KEYS)}")


@click.group("config")
def config() -> None:
    """Defaults for flags, kept in a file."""


@config.command("view")
@click.pass_obj
def view(path: Path) -> None:
    """All settings of the file."""
    for key, value in sorted(load(path).items()):
        click.echo(f"{key}: {value}")


@config.command("get")
@click.argument("key")
@click.pass_obj
def get(path: Path, key: str) -> None:
    """One setting."""
    _known(key)
    click.echo(load(path).get(key, ""))


@config.command("set")
@click.argument("key")
@click.argument("value")
@click.pass_obj
def set_(path: Path, key: str, value: str) -> None:
    """Write one setting."""
    _known(key)
    _store(path, {**load(path), key: value})


@config.command("reset")
@click.argument("key")
@click.pass_obj
def reset(path: Path, key: str) -> None:
    """Forget one setting."""
    _known(key)
    _store(path, {name: value for name, value in load(path).items() if name != key})


def _store(path: Path, settings: dict[str, Any]) -> None:
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(yaml.safe_dump(settings))
    draft.replace(path)

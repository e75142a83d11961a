"""Images of a lab whose nodes run containerd: loaded from files, kept for nodes that come later, listed.

In: tars as `docker save`, podman, skopeo and buildah write them. Out: the same image on every node. Raises LabError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubelab.cri import archive as archives_of
from kubelab.cri.archive import ArchiveError
from kubelab.lab import containerd
from kubelab.lab.errors import LabError
from kubelab.lab.state import LabPaths, LabState

DIRECTORY = "images"
PAUSE = "0-pause.tar"


@dataclass(frozen=True, slots=True)
class LabImage:
    """An image under one of its names, and the nodes that have it."""

    name: str
    digest: str
    nodes: tuple[str, ...]


def directory(paths: LabPaths) -> Path:
    return paths.directory / DIRECTORY


def archives(paths: LabPaths) -> list[Path]:
    """What every node gets, in the order in which it came; the image of sandboxes first."""
    place = directory(paths)
    place.mkdir(exist_ok=True)
    if not (place / PAUSE).exists():
        containerd.write_pause(place / PAUSE)
    return sorted(place.glob("*.tar"), key=lambda path: (path.name != PAUSE, path.stat().st_mtime_ns))


def load(paths: LabPaths, tar: Path, tag: str | None = None) -> list[str]:
    """Imports a tar on every node and keeps it for nodes that are added; the names of what it holds.

    `tag` names the image of a tar that names none.
    """
    state = _containerd_lab(paths)
    place = directory(paths)
    place.mkdir(exist_ok=True)
    fresh = place / "fresh.part"
    try:
        names = archives_of.normalize(tar, fresh, tag)
        for node in _nodes(state):
            containerd.import_image(paths.space(node), fresh)
            containerd.prune(paths.space(node))
        fresh.rename(place / f"{archives_of.digest(names)}.tar")  # a later image of the same names takes its place
    except ArchiveError as error:
        raise LabError(str(error)) from error
    finally:
        fresh.unlink(missing_ok=True)
    return names


def remove(paths: LabPaths, name: str) -> str:
    """Takes an image from every node, and from what is kept for nodes that are added; its full name."""
    state = _containerd_lab(paths)
    try:
        name = archives_of.full_name(name)
    except ValueError as error:
        raise LabError(str(error)) from error
    kept = [archives_of.drop(archive, name) for archive in directory(paths).glob("*.tar") if archive.name != PAUSE]
    had = [containerd.remove_image(paths.space(node), name) for node in _nodes(state)]
    if not any([*kept, *had]):
        raise LabError(f"no node has the image {name}: cilium lab image list shows what there is")
    return name


def listing(paths: LabPaths) -> list[LabImage]:
    """The images that the nodes have, by name; without those of the runtime itself."""
    found: dict[tuple[str, str], list[str]] = {}
    for node in _nodes(_containerd_lab(paths)):
        for name, digest in containerd.images(paths.space(node)):
            found.setdefault((name, digest), []).append(node)
    return [LabImage(name, digest, tuple(nodes)) for (name, digest), nodes in sorted(found.items())]


def _containerd_lab(paths: LabPaths) -> LabState:
    state = paths.require()
    if state.options.runtime != "containerd":
        raise LabError(
            f"lab {paths.name} runs containers as processes, which have no images: take it down and bring it up with "
            "cilium lab up --runtime containerd; or name what stands in for an image: cilium lab up --images FILE"
        )
    return state


def _nodes(state: LabState) -> Iterable[str]:
    """Those that run; the others are given what was kept when they start."""
    return [record.name for record in state.nodes if not record.stopped]

"""The end of a lab, in whatever state it is.

In: a lab's paths. Out: nothing of it is on the machine any more, and LabError names what could not be ended.
"""

from __future__ import annotations

from kubelab.lab.errors import LabError
from kubelab.lab.state import LabPaths
from kubelab.underlay import cgroups, controllers, namespaces, network

REMOVAL = 30.0
"""Seconds for killed processes to end; on a busy machine the kernel takes its time to free what an agent had."""


def remove(paths: LabPaths) -> None:
    """Raises LabError when processes do not end, after all the rest was removed."""
    try:
        found = paths.read()
    except LabError:
        found = None
    stuck = None
    try:
        cgroups.remove(cgroups.lab_path(paths.name), timeout=REMOVAL)
        controllers.remove(paths.name, timeout=REMOVAL)
    except cgroups.BusyError as error:
        stuck = error  # the rest need not wait for it
    if paths.namespaces.is_dir():
        for pin in paths.namespaces.iterdir():
            namespaces.unpin(pin)
    network.destroy(paths.name, found.plan.host_link if found else None)
    paths.unmount()
    if stuck is not None:
        remedy = f"everything else of lab {paths.name} is gone: take it down again once they have ended"
        raise LabError(f"lab {paths.name}: {stuck}; {remedy}") from stuck
    cgroups.remove_if_empty(cgroups.lab_path(paths.name).parent)

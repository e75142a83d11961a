"""The host firewall of an agent: what the policy engine needs for it, and the way out for an agent that starts locked
out.

In: settings, contact to the API server, the state directory. Out: `HostFirewall` for the policy engine; rows of
cilium_lxc.

Policies come from the API server. If a change of what is enforced on the node was on trial when the last agent went,
and the API server does not answer now, this agent could learn of no other rules: it rolls the change back in the
state file, and until the engine has compiled what was kept, the node's policies report only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import structlog

from cilium.datapath.errors import DatapathError
from cilium.datapath.generated import EndpointFlags
from cilium.datapath.maps import BpfMap, PinnedMap
from cilium.datapath.paths import MAP_DIRECTORY
from cilium.datapath.runtime import Epoch, Runtime
from cilium.features.policy.rows import HostPolicyTrial, TrialState
from cilium.features.policy.trial_cell import HostFirewall
from cilium.features.policy.trial_events import Writes
from cilium.features.policy.trial_file import TrialFile
from cilium.features.policy.trial_run import PAUSE, Contact
from cilium.settings import PolicyEnforcement, Settings
from cilium.settings.datapath_groups import HostFirewallSettings
from cilium.sources.kubernetes.tables import KubernetesTables

log = structlog.get_logger("agent")


class HostGuard:
    """`rescue` is a task from the start on; it ends when the engine takes the trials over."""

    def __init__(self, *, state: Path, contact: Contact, rolled_back: Callable[[], None]) -> None:
        self._contact, self._rolled_back = contact, rolled_back
        self._file = TrialFile(state / "host-policy-trials.json")
        self._taken_over = asyncio.Event()

    def firewall(
        self, settings: Settings, *, node: str, kubernetes: KubernetesTables, writes: Writes
    ) -> HostFirewall | None:
        """What the policy engine needs; None if it has nothing to do with the node, nor has anybody else then."""
        host, policy = settings.host_firewall, settings.policy
        if not host.enabled:
            self._taken_over.set()
            return None
        return HostFirewall(
            node=node,
            kube_nodes=kubernetes.kube_nodes,
            contact=self._contact,
            file=self._file,
            lost=host.rollback_after,
            trial=host.trial_time,
            begun=self._taken_over.set,
            rolled_back=self._rolled_back,
            writes=writes,
            audit=host.audit or policy.audit or policy.enforcement is PolicyEnforcement.NEVER,
        )

    async def rescue(self, settings: HostFirewallSettings) -> None:
        """`settings`: as far as they are known without an API server."""
        await rescue(
            self._file,
            contact=self._contact,
            lost=settings.rollback_after,
            taken_over=self._taken_over.is_set,
            let_out=self._let_out,
        )

    def _let_out(self) -> None:
        self._rolled_back()
        let_node_out()


async def rescue(
    file: TrialFile,
    *,
    contact: Contact,
    lost: float,
    taken_over: Callable[[], bool],
    let_out: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    pause: float = PAUSE,
) -> None:
    """Ends a trial that the last agent left, if there is no contact for `lost` seconds before the engine takes over."""
    rows = file.load()
    if not any(row.state is TrialState.TRYING for row in rows):
        return
    last = clock()
    while not taken_over():
        if await contact():
            last = clock()
        elif clock() - last >= lost and not taken_over():
            log.warning("no API server, and changed host policies: rolled back")
            try:
                file.save(tuple(map(_rolled_back, rows)))
            except OSError as error:
                log.error("not written down: what is on trial will be tried again", error=str(error))
            let_out()
            return
        await asyncio.sleep(pause)


def _rolled_back(row: HostPolicyTrial) -> HostPolicyTrial:
    if row.state is not TrialState.TRYING:
        return row
    return msgspec.structs.replace(row, state=TrialState.ROLLED_BACK)


def let_node_out(directory: Path = MAP_DIRECTORY) -> None:
    """The rows of the node report what they would drop, until the endpoint reconciler writes them anew."""
    try:
        with PinnedMap("cilium_lxc", directory) as endpoints, PinnedMap("cilium_runtime", directory) as runtime:
            audit_node(endpoints, Runtime(runtime))
    except DatapathError as error:
        log.warning("nothing pinned to open", error=str(error))


def audit_node(endpoints: BpfMap, epoch: Epoch) -> None:
    keys, values = endpoints.dump()
    node = (values["flags"] & EndpointFlags.HOST) != 0
    values["flags"][node] |= np.uint16(EndpointFlags.AUDIT)
    endpoints.update(keys[node], values[node])
    epoch.advance()

"""The life of endpoints: what ADD, DEL, CHECK and GC do, and what a restart finds.

In: CNI requests with an open namespace, the state directory. Out: rows of `endpoints`, veth pairs through the links
port, addresses through the allocator port. ADD answers when the datapath holds the endpoint's row with a policy: a pod
never runs before its policy does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_interface
from typing import Protocol

import msgspec
import structlog

from cilium.datapath.names import POD_PREFIX
from cilium.features.endpoint.locks import NamedLocks
from cilium.features.endpoint.statedir import StateDirectory
from cilium.protocols.cni import Address, CNIError, ErrorCode, Interface, Request, Result
from cilium.state import Table, Writer
from cilium.tables.endpoints import Endpoint
from cilium.tables.types import EndpointId, Ifindex, IPAddress

log = structlog.get_logger("endpoint")

MAX_ENDPOINTS = 65535


class Link(msgspec.Struct, frozen=True):
    """A veth pair as it was made."""

    ifindex: Ifindex
    mac: str
    host_mac: str
    netns_cookie: int = 0


class Links(Protocol):
    """Connects namespaces. Methods raise OSError."""

    async def connect(
        self,
        *,
        ifname: str,
        container_ifname: str,
        netns_fd: int,
        addresses: Sequence[IPAddress],
        gateways: Sequence[IPAddress],
        mtu: int,
    ) -> Link: ...

    async def disconnect(self, ifname: str) -> None:
        """Removes the host side, and so the pair; absence is no error."""

    async def find(self, ifname: str) -> Ifindex | None: ...

    async def inspect(self, *, netns_fd: int, container_ifname: str) -> Sequence[IPAddress]:
        """Addresses of the interface inside the namespace. Raises OSError if there is none."""


class Addresses(Protocol):
    """The allocator's half that endpoints need."""

    def allocate(self, owner: str) -> tuple[IPAddress, ...]: ...
    def claim(self, addresses: Sequence[IPAddress], owner: str) -> None: ...
    def release(self, addresses: Sequence[IPAddress]) -> None: ...


class Readiness(Protocol):
    async def wait(self, endpoint: Endpoint, seconds: float) -> None:
        """Until the datapath serves the endpoint. Raises TimeoutError saying what is missing."""


class EndpointManager:
    """Serves the CNI plugin (sources.cni.server.Handler)."""

    def __init__(
        self,
        *,
        table: Table[EndpointId, Endpoint],
        writer: Writer[EndpointId, Endpoint],
        state: StateDirectory,
        links: Links,
        addresses: Addresses,
        readiness: Readiness,
        gateways: Callable[[], Sequence[IPAddress]],
        mtu: Callable[[], int],
        unavailable: Callable[[], str],
        patience: float = 20.0,
    ) -> None:
        self._table, self._writer, self._state = table, writer, state
        self._links, self._addresses, self._readiness = links, addresses, readiness
        self._gateways, self._mtu, self._unavailable = gateways, mtu, unavailable
        self._patience = patience
        self._locks = NamedLocks()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        """What an ADD waits for, by container: there is one at a time."""
        self._last_id = 0

    # -- restart --------------------------------------------------------------------------------------------------

    async def restore(self) -> int:
        """Brings back every pod whose interface is still there; returns how many. Marks nothing initialised."""
        restored = 0
        for endpoint in self._state.load():
            if endpoint.kind != "pod":
                continue  # the agent's own are made anew: own.py
            ifindex = await self._links.find(endpoint.ifname)
            if ifindex is None:
                log.info("endpoint gone while the agent was away", endpoint=endpoint.id, pod=endpoint.pod)
                self._state.remove(endpoint.id)
                continue
            pod = f"{endpoint.namespace}/{endpoint.pod}"
            try:
                self._addresses.claim(endpoint.addresses, pod)
            except Exception as error:  # one pod without a network, not a node without an agent
                log.error("endpoint not restored, delete its pod", endpoint=endpoint.id, pod=pod, error=str(error))
                continue
            self._last_id = max(self._last_id, endpoint.id)
            self._writer.upsert(msgspec.structs.replace(endpoint, ifindex=ifindex))
            restored += 1
        return restored

    # -- CNI ------------------------------------------------------------------------------------------------------

    async def add(self, request: Request, netns_fd: int) -> Result:
        async with self._locks.hold(request.container_id):
            endpoint = self._find(request) or await self._create(request, netns_fd)
            try:
                await self._wait(endpoint)
            except TimeoutError as error:
                await self._remove(endpoint)
                raise CNIError(
                    ErrorCode.IDENTITY_UNAVAILABLE,
                    f"pod {endpoint.namespace}/{endpoint.pod} is not ready in the datapath after "
                    f"{self._patience:.0f} s: {error}",
                ) from None
            return self._result(endpoint)

    async def delete(self, request: Request) -> None:
        self._leave(request.container_id)
        async with self._locks.hold(request.container_id):
            for endpoint in self._table.snapshot().by("container", request.container_id):
                if request.ifname in {"", endpoint.container_ifname}:
                    await self._remove(endpoint)

    async def check(self, request: Request, netns_fd: int) -> None:
        endpoint = self._find(request)
        if endpoint is None:
            raise CNIError(ErrorCode.UNKNOWN_CONTAINER, f"no endpoint for container {request.container_id}")
        try:
            inside = await self._links.inspect(netns_fd=netns_fd, container_ifname=request.ifname)
        except OSError as error:
            raise CNIError(ErrorCode.CHECK_FAILED, f"interface {request.ifname}: {error}") from None
        missing = [str(address) for address in endpoint.addresses if address not in inside]
        if missing:
            raise CNIError(ErrorCode.CHECK_FAILED, f"interface {request.ifname} lacks {', '.join(missing)}")
        try:
            await self._readiness.wait(endpoint, 1.0)
        except TimeoutError as error:
            raise CNIError(ErrorCode.CHECK_FAILED, f"endpoint {endpoint.id}: {error}") from None

    async def collect(self, request: Request) -> None:
        valid = request.config.get("cni.dev/valid-attachments")
        if not isinstance(valid, list) or not all(isinstance(entry, dict) for entry in valid):
            raise CNIError(ErrorCode.INVALID_NETWORK_CONFIG, "GC needs cni.dev/valid-attachments: a list of objects")
        keep = {(entry.get("containerID"), entry.get("ifname")) for entry in valid}
        for endpoint in self._table.snapshot():
            if endpoint.kind == "pod" and (endpoint.container_id, endpoint.container_ifname) not in keep:
                await self._remove(endpoint)

    async def status(self, request: Request) -> None:
        if reason := self._unavailable():
            raise CNIError(ErrorCode.NOT_AVAILABLE, reason)

    # -- parts ----------------------------------------------------------------------------------------------------

    async def _wait(self, endpoint: Endpoint) -> None:
        """Until it is ready. Raises TimeoutError, CNIError if a DEL comes first."""
        waiting = asyncio.ensure_future(self._readiness.wait(endpoint, self._patience))
        self._waiting[endpoint.container_id] = waiting
        try:
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                return waiting.result()
        finally:
            waiting.cancel()
            del self._waiting[endpoint.container_id]
        await self._remove(endpoint)
        raise CNIError(ErrorCode.UNKNOWN_CONTAINER, f"container {endpoint.container_id} was deleted during its ADD")

    def _leave(self, container: str) -> None:
        """The runtime gave up an ADD: its DEL need not wait until the ADD does too."""
        if container in self._waiting:
            self._waiting[container].cancel()

    def _find(self, request: Request) -> Endpoint | None:
        for endpoint in self._table.snapshot().by("container", request.container_id):
            if endpoint.container_ifname == request.ifname:
                return endpoint
        return None

    async def _create(self, request: Request, netns_fd: int) -> Endpoint:
        namespace, pod = request.args.get("K8S_POD_NAMESPACE", ""), request.args.get("K8S_POD_NAME", "")
        if not namespace or not pod:
            raise CNIError(
                ErrorCode.INVALID_ENVIRONMENT,
                "CNI_ARGS lacks K8S_POD_NAMESPACE or K8S_POD_NAME: set by the runtime",
            )
        if reason := self._unavailable():
            raise CNIError(ErrorCode.TRY_AGAIN_LATER, reason)
        await self._replace_predecessor(namespace, pod, request)
        try:
            addresses = self._addresses.allocate(f"{namespace}/{pod}")
        except Exception as error:
            raise CNIError(ErrorCode.ADDRESSES_EXHAUSTED, str(error)) from None
        ifname = POD_PREFIX + sha256(f"{request.container_id}/{request.ifname}".encode()).hexdigest()[:12]
        plan = Endpoint(
            id=self.free_id(),
            kind="pod",
            addresses=addresses,
            container_id=request.container_id,
            container_ifname=request.ifname,
            netns=request.netns,
            ifname=ifname,
            namespace=namespace,
            pod=pod,
            pod_uid=request.args.get("K8S_POD_UID", ""),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        try:
            endpoint = await self._connect(plan, netns_fd)
        except BaseException as error:
            await self._undo(plan)
            if not isinstance(error, OSError):
                raise
            raise CNIError(ErrorCode.IO_FAILURE, f"connecting {request.netns} as {request.ifname}: {error}") from error
        self._writer.upsert(endpoint)
        log.info(
            "endpoint created",
            endpoint=endpoint.id,
            pod=f"{namespace}/{pod}",
            addresses=list(map(str, addresses)),
        )
        return endpoint

    async def _connect(self, plan: Endpoint, netns_fd: int) -> Endpoint:
        """The interface, and the file that remembers it. Raises OSError."""
        link = await self._links.connect(
            ifname=plan.ifname,
            container_ifname=plan.container_ifname,
            netns_fd=netns_fd,
            addresses=plan.addresses,
            gateways=self._gateways(),
            mtu=self._mtu(),
        )
        endpoint = msgspec.structs.replace(
            plan, ifindex=link.ifindex, mac=link.mac, host_mac=link.host_mac, netns_cookie=link.netns_cookie
        )
        self._state.save(endpoint)
        return endpoint

    async def _undo(self, plan: Endpoint) -> None:
        """What was made of a plan, all of it; the error that matters is the one before."""
        self._state.remove(plan.id)
        try:
            await self._links.disconnect(plan.ifname)
        except OSError as error:
            log.warning("interface left behind", ifname=plan.ifname, error=str(error))
        self._addresses.release(plan.addresses)

    async def _replace_predecessor(self, namespace: str, pod: str, request: Request) -> None:
        """A new sandbox of the same pod replaces the old one, whose DEL may come later or never."""
        for endpoint in self._table.snapshot().by("pod", f"{namespace}/{pod}"):
            if endpoint.container_id != request.container_id:
                await self._remove(endpoint)

    async def _remove(self, endpoint: Endpoint) -> None:
        await self._links.disconnect(endpoint.ifname)
        if endpoint.id not in self._table.snapshot():
            return  # DEL, GC and a successor may have come for it at once; its address may be somebody else's by now
        self._writer.delete(endpoint.id)
        self._state.remove(endpoint.id)
        self._addresses.release(endpoint.addresses)
        log.info("endpoint removed", endpoint=endpoint.id, pod=f"{endpoint.namespace}/{endpoint.pod}")

    def free_id(self) -> EndpointId:
        """A number nobody has; the last to be given again is the one just freed."""
        taken = self._table.snapshot()
        for step in range(MAX_ENDPOINTS):
            number = EndpointId((self._last_id + step) % MAX_ENDPOINTS + 1)
            if number not in taken:
                self._last_id = number
                return number
        raise CNIError(ErrorCode.ADDRESSES_EXHAUSTED, f"this node already has {MAX_ENDPOINTS} endpoints")

    def _result(self, endpoint: Endpoint) -> Result:
        gateways = {gateway.version: str(gateway) for gateway in self._gateways()}
        return Result(
            interfaces=[
                Interface(name=endpoint.ifname, mac=endpoint.host_mac),
                Interface(name=endpoint.container_ifname, mac=endpoint.mac, sandbox=endpoint.netns),
            ],
            ips=[
                Address(
                    address=ip_interface((address, address.max_prefixlen)),
                    gateway=gateways[address.version],
                    interface=1,
                )
                for address in endpoint.addresses
            ],
            routes=[
                {"dst": "0.0.0.0/0" if address.version == 4 else "::/0", "gw": gateways[address.version]}
                for address in endpoint.addresses
            ],
            mtu=self._mtu(),
        )

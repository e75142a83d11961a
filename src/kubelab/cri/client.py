"""A client of the Container Runtime Interface, version 1, over a unix socket.

In: messages of `runtime.proto`. Out: their answers; CriError with the runtime's own words.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

# Whoever uses this client may fork, and executes at once what it forked for: gRPC need not prepare for it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

from kubelab.cri.proto import runtime_pb2 as cri
from kubelab.cri.proto import runtime_pb2_grpc as services

_State = grpc.ChannelConnectivity

Message = Any
"""A message of the generated code, which has no types of its own here."""

TIMEOUT = 10.0
LONG = 120.0
"""Seconds for what waits for plugins and programs."""

MESSAGE_LIMIT = 32 << 20
"""Bytes: the runtime caps each stream of an ExecSync at 16 MiB."""


class CriError(Exception):
    """The runtime refused, or could not be asked (`unavailable`)."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code

    @property
    def missing(self) -> bool:
        """Whether what was asked for is not there."""
        return self.code is grpc.StatusCode.NOT_FOUND

    @property
    def late(self) -> bool:
        return self.code is grpc.StatusCode.DEADLINE_EXCEEDED

    @property
    def unavailable(self) -> bool:
        return self.code is grpc.StatusCode.UNAVAILABLE


class CriClient:
    """One connection; it is made anew whenever it was lost."""

    def __init__(self, address: str) -> None:
        """`address`: the path of the socket."""
        backoff = [("grpc.min_reconnect_backoff_ms", 50), ("grpc.initial_reconnect_backoff_ms", 50),
                   ("grpc.max_reconnect_backoff_ms", 1000)]  # fmt: skip
        options = [("grpc.max_receive_message_length", MESSAGE_LIMIT), *backoff]
        self._channel = grpc.aio.insecure_channel(f"unix:{address}", options=options)
        self._runtime = services.RuntimeServiceStub(self._channel)
        self._images = services.ImageServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    # -- the runtime

    async def version(self) -> Message:
        """Waits for the runtime to come up, for `LONG` at most."""
        return await _ask(self._runtime.Version, cri.VersionRequest(), LONG, wait=True)

    async def answers(self) -> AsyncIterator[bool]:
        """Whether somebody listens on the socket: now, and each time that it changes."""
        said = None
        while True:
            state = self._channel.get_state(try_to_connect=True)
            listens = {_State.READY: True, _State.TRANSIENT_FAILURE: False}.get(state, said)
            if listens is not None and listens is not said:
                said = listens
                yield listens
            await self._channel.wait_for_state_change(state)

    async def conditions(self) -> dict[str, Message]:
        """RuntimeReady and NetworkReady."""
        answer = await _ask(self._runtime.Status, cri.StatusRequest())
        return {condition.type: condition for condition in answer.status.conditions}

    # -- sandboxes

    async def run_sandbox(self, config: Message, handler: str = "") -> str:
        """`handler`: of the runtime's configuration; the default one when it is empty."""
        request = cri.RunPodSandboxRequest(config=config, runtime_handler=handler)
        answer = await _ask(self._runtime.RunPodSandbox, request, LONG)
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, identifier: str) -> None:
        """Its containers end, its network goes. What is gone already is no error."""
        await _forget(self._runtime.StopPodSandbox, cri.StopPodSandboxRequest(pod_sandbox_id=identifier))

    async def remove_sandbox(self, identifier: str) -> None:
        await _forget(self._runtime.RemovePodSandbox, cri.RemovePodSandboxRequest(pod_sandbox_id=identifier))

    async def sandbox(self, identifier: str) -> Message:
        """PodSandboxStatusResponse, verbose."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=identifier, verbose=True)
        return await _ask(self._runtime.PodSandboxStatus, request)

    async def sandboxes(self, labels: Mapping[str, str]) -> list[Message]:
        """PodSandboxes with all of these labels."""
        wanted = cri.PodSandboxFilter(label_selector=dict(labels))
        answer = await _ask(self._runtime.ListPodSandbox, cri.ListPodSandboxRequest(filter=wanted))
        return list(answer.items)

    # -- containers

    async def create(self, sandbox: str, config: Message, sandbox_config: Message) -> str:
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config)
        answer = await _ask(self._runtime.CreateContainer, request, LONG)
        return str(answer.container_id)

    async def start(self, identifier: str) -> None:
        await _ask(self._runtime.StartContainer, cri.StartContainerRequest(container_id=identifier), LONG)

    async def stop(self, identifier: str, grace: int) -> None:
        request = cri.StopContainerRequest(container_id=identifier, timeout=grace)
        await _forget(self._runtime.StopContainer, request, LONG + grace)

    async def remove(self, identifier: str) -> None:
        await _forget(self._runtime.RemoveContainer, cri.RemoveContainerRequest(container_id=identifier))

    async def container(self, identifier: str) -> Message:
        """ContainerStatusResponse, verbose."""
        request = cri.ContainerStatusRequest(container_id=identifier, verbose=True)
        return await _ask(self._runtime.ContainerStatus, request)

    async def containers(self, sandbox: str) -> list[Message]:
        wanted = cri.ContainerFilter(pod_sandbox_id=sandbox)
        answer = await _ask(self._runtime.ListContainers, cri.ListContainersRequest(filter=wanted))
        return list(answer.containers)

    async def usage(self, identifier: str) -> Message:
        """ContainerStats."""
        request = cri.ContainerStatsRequest(container_id=identifier)
        return (await _ask(self._runtime.ContainerStats, request)).stats

    # -- commands and streams

    async def execute(self, identifier: str, command: list[str], seconds: int) -> Message:
        """ExecSyncResponse; an error that is `late` when it took longer."""
        request = cri.ExecSyncRequest(container_id=identifier, cmd=command, timeout=seconds)
        return await _ask(self._runtime.ExecSync, request, seconds + TIMEOUT)

    async def exec_url(self, identifier: str, command: list[str], *, tty: bool, stdin: bool) -> str:
        """Where the command's streams are served; it runs once somebody comes."""
        request = cri.ExecRequest(
            container_id=identifier, cmd=command, tty=tty, stdin=stdin, stdout=True, stderr=not tty
        )
        return str((await _ask(self._runtime.Exec, request)).url)

    async def attach_url(self, identifier: str, *, tty: bool, stdin: bool) -> str:
        """Where the container's own streams are served."""
        request = cri.AttachRequest(container_id=identifier, tty=tty, stdin=stdin, stdout=True, stderr=not tty)
        return str((await _ask(self._runtime.Attach, request)).url)

    # -- images

    async def images(self) -> list[Message]:
        return list((await _ask(self._images.ListImages, cri.ListImagesRequest())).images)

    async def image(self, name: str) -> Message | None:
        """The image of a name or an id; None when there is none. The runtime completes names as people shorten them."""
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        answer = await _ask(self._images.ImageStatus, request)
        return answer.image if answer.HasField("image") else None


async def _ask(method: Any, request: Message, timeout: float = TIMEOUT, *, wait: bool = False) -> Message:
    try:
        return await method(request, timeout=timeout, wait_for_ready=wait)
    except grpc.aio.AioRpcError as error:
        raise CriError(error.code(), error.details() or error.code().name) from error


async def _forget(method: Any, request: Message, timeout: float = LONG) -> None:
    try:
        await _ask(method, request, timeout)
    except CriError as error:
        if not error.missing:  # some runtimes say so of what they have removed
            raise

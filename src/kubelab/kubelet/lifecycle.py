"""Hooks of a container: postStart and preStop, by exec, httpGet, tcpSocket (deprecated) or sleep.

In: a handler and where the container is. Out: nothing, or HookError with the reason.
"""

from __future__ import annotations

import asyncio
import os

from kubelab.kubelet import probes
from kubelab.kubelet.config import Object
from kubelab.kubelet.probes import Exec, ProbeFailedError


class HookError(Exception):
    """A hook failed."""


async def run(handler: Object, container: Object, ip: str, execute: Exec, timeout: float) -> None:
    """One hook to its end. Raises HookError."""
    try:
        async with asyncio.timeout(timeout):
            if "exec" in handler:
                command = handler["exec"]["command"]
                code, output = await execute(command, timeout)
                if code:
                    raise HookError(f"command '{' '.join(command)}' exited with {code}: {output.strip()[:1000]}")
            elif "httpGet" in handler:
                await probes.http_get(handler["httpGet"], container, ip)
            elif "sleep" in handler:
                await asyncio.sleep(float(handler["sleep"]["seconds"]))
            elif "tcpSocket" in handler:
                raise HookError("tcpSocket is deprecated and not supported in lifecycle hooks")
            else:
                raise HookError("invalid handler: want exec, httpGet or sleep")
    except TimeoutError:
        raise HookError(f"no end within {timeout:g} s") from None
    except (ProbeFailedError, *probes.UNUSABLE) as error:
        raise HookError(str(error)) from error
    except OSError as error:
        raise HookError(os.strerror(error.errno) if error.errno else str(error)) from error

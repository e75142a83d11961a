#!/usr/bin/python3 -SEI
"""loopback, the CNI plugin that brings `lo` of a namespace up: container runtimes call it before the cluster's own.

In: a runtime's request, as any CNI plugin gets it. Out: the interface's state and a CNI result. The agent installs this
file as /opt/cni/bin/loopback where a node has none; like cilium-cni it needs no agent to run and no package to import.

Sources: CNI specification 1.1.0; netdevice(7).
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys

INTERFACE = "lo"
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, UP = 0x8913, 0x8914, 1
REQUEST = struct.Struct("16sH14x")  # struct ifreq with ifr_flags
BAD_ENVIRONMENT, IO_FAILURE, BAD_CONFIG, DOWN = 4, 5, 7, 103


class PluginError(Exception):
    """What the runtime is told: a code of the specification and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def enter(path: str) -> None:
    """Moves this process into the namespace. Raises PluginError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PluginError(BAD_ENVIRONMENT, f"CNI_NETNS {path}: {error.strerror}") from None
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
        raise PluginError(IO_FAILURE, f"CNI_NETNS {path}: setns: {os.strerror(ctypes.get_errno())}")


def flags(change: int | None = None) -> int:
    """The interface's flags, after setting them if there is something to set. Raises PluginError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            if change is not None:
                fcntl.ioctl(sock, SIOCSIFFLAGS, REQUEST.pack(INTERFACE.encode(), change))
            answer = fcntl.ioctl(sock, SIOCGIFFLAGS, REQUEST.pack(INTERFACE.encode(), 0))
    except OSError as error:
        raise PluginError(IO_FAILURE, f"interface {INTERFACE}: {error.strerror}") from None
    return int(REQUEST.unpack(answer)[1])


def addresses() -> list[str]:
    """What the kernel gave the interface when it came up; no IPv6 where that is switched off."""
    with open("/proc/thread-self/net/if_inet6") as file:
        has_ipv6 = any(line.split()[-1] == INTERFACE for line in file)
    return ["127.0.0.1/8", "::1/128"] if has_ipv6 else ["127.0.0.1/8"]


def result(version: str, netns: str) -> dict[str, object]:
    ips: list[dict[str, object]] = [{"address": address, "interface": 0} for address in addresses()]
    if version.startswith("0."):
        ips = [entry | {"version": "6" if ":" in str(entry["address"]) else "4"} for entry in ips]
    interface = {"name": INTERFACE, "mac": "00:00:00:00:00:00", "sandbox": netns}
    return {"cniVersion": version, "interfaces": [interface], "ips": ips}


def perform(command: str, netns: str, config: dict[str, object]) -> dict[str, object] | None:
    """Returns what is printed, None for nothing. Raises PluginError."""
    version = str(config.get("cniVersion", "0.3.1"))
    match command:
        case "VERSION":
            return {"cniVersion": VERSIONS[-1], "supportedVersions": VERSIONS}
        case "STATUS" | "GC":
            return None
        case "DEL" if not os.path.exists(netns):
            return None  # with the namespace its interface is gone
        case "ADD" | "DEL" | "CHECK":
            enter(netns)
        case _:
            raise PluginError(BAD_ENVIRONMENT, f"CNI_COMMAND is {command!r}")
    if command == "CHECK":
        if not flags() & UP:
            raise PluginError(DOWN, f"interface {INTERFACE} in {netns} is down")
        return None
    if command == "DEL":
        flags(flags() & ~UP)
        return None
    flags(flags() | UP)
    previous = config.get("prevResult")
    return previous if isinstance(previous, dict) else result(version, netns)


def main() -> int:
    command, version = os.environ.get("CNI_COMMAND", ""), "1.0.0"
    try:
        try:
            config = json.load(sys.stdin) if command != "VERSION" else {}
            version = config.get("cniVersion", "0.3.1")
        except (ValueError, AttributeError):
            raise PluginError(BAD_CONFIG, "the network configuration on stdin is no JSON object") from None
        answer = perform(command, os.environ.get("CNI_NETNS", ""), config)
    except PluginError as error:
        print(json.dumps({"cniVersion": version, "code": error.code, "msg": str(error)}))
        return 1
    if answer is not None:
        print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

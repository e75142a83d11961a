"""The CNI contract, without I/O: what the plugin sends to the agent, what a runtime gets back.

Between plugin and agent (one request per connection on the agent's CNI socket):

    request   u32 length, then `NAME=value` of every CNI_* variable, each ended by NUL, an empty string (NUL), and the
              network configuration as read from stdin; the namespace's file descriptor rides on the first byte
    response  u8 exit status, u32 length, then what the plugin prints on stdout

Lengths are little-endian. The plugin (app/cni_plugin.py) speaks this format with nothing imported, so a change here is
a change there; tests/unit/protocols/test_cni.py holds the two together.

Source: CNI specification 1.1.0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

import msgspec

SUPPORTED_VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
HEADER = struct.Struct("<I")
RESPONSE = struct.Struct("<BI")
CONTAINER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,254}", re.ASCII)
INTERFACE = re.compile(r"[!-.0-9;-~]{1,15}", re.ASCII)
MAX_REQUEST = 4 << 20
"""Bytes; a configuration with a prevResult is a few KiB."""


class ErrorCode(IntEnum):
    """Well-known error codes (CNI specification, section 'Error')."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODE_FAILURE = 6
    INVALID_NETWORK_CONFIG = 7
    TRY_AGAIN_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    INTERNAL = 100
    ADDRESSES_EXHAUSTED = 101
    IDENTITY_UNAVAILABLE = 102
    CHECK_FAILED = 103


class CNIError(Exception):
    """What a runtime is told: code, message, details."""

    def __init__(self, code: ErrorCode, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


class Request(msgspec.Struct, frozen=True):
    """One call of the plugin."""

    command: str
    container_id: str
    netns: str
    ifname: str
    args: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def version(self) -> str:
        return str(self.config.get("cniVersion", "0.3.1"))

    @property
    def previous(self) -> Mapping[str, Any] | None:
        """prevResult of an earlier plugin in the chain, or of the ADD."""
        return self.config.get("prevResult")


class Interface(msgspec.Struct, frozen=True):
    name: str
    mac: str
    sandbox: str = ""


class Address(msgspec.Struct, frozen=True):
    address: IPv4Interface | IPv6Interface
    gateway: str
    interface: int


class Result(msgspec.Struct, frozen=True):
    """The success type of ADD, before it takes the shape of the version asked for."""

    interfaces: Sequence[Interface]
    ips: Sequence[Address]
    routes: Sequence[Mapping[str, str]]
    mtu: int = 0


def frame(payload: bytes) -> bytes:
    """A request as it goes over the socket."""
    return HEADER.pack(len(payload)) + payload


def frame_response(exit_status: int, stdout: bytes) -> bytes:
    return RESPONSE.pack(exit_status, len(stdout)) + stdout


def encode_request(environment: Mapping[str, str], stdin: bytes) -> bytes:
    pairs = [f"{name}={value}".encode() for name, value in environment.items() if name.startswith("CNI_")]
    return frame(b"".join(pair + b"\0" for pair in pairs) + b"\0" + stdin)


def decode_request(payload: bytes) -> Request:
    """Parses what follows the length.

    Raises CNIError with the code a runtime expects: the environment (4), the configuration (6, 7), the version (1).
    """
    environment, stdin = _split(payload)
    command = environment.get("CNI_COMMAND", "")
    if command not in {"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"}:
        raise CNIError(
            ErrorCode.INVALID_ENVIRONMENT,
            f"CNI_COMMAND is {command!r}; expected ADD, DEL, CHECK, GC, STATUS or VERSION",
        )
    if command in {"ADD", "DEL", "CHECK"}:
        required = ["CNI_CONTAINERID", "CNI_IFNAME"] + ([] if command == "DEL" else ["CNI_NETNS"])
        missing = [name for name in required if not environment.get(name)]
        if missing:
            raise CNIError(ErrorCode.INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)}: set by the runtime")
        _check_names(environment)
    config = _decode_config(stdin)
    if command in {"ADD", "CHECK"} and not _is_result(config.get("prevResult") or {}):  # a DEL needs none
        raise CNIError(
            ErrorCode.INVALID_NETWORK_CONFIG, "prevResult must be an object whose interfaces, ips and routes are lists"
        )
    return Request(
        command=command,
        container_id=environment.get("CNI_CONTAINERID", ""),
        netns=environment.get("CNI_NETNS", ""),
        ifname=environment.get("CNI_IFNAME", ""),
        args=_decode_args(environment.get("CNI_ARGS", "")),
        config=config,
    )


def _check_names(environment: Mapping[str, str]) -> None:
    """The specification's own rules for what a runtime may send (section 'Parameters')."""
    if not CONTAINER_ID.fullmatch(container := environment["CNI_CONTAINERID"]):
        raise CNIError(
            ErrorCode.INVALID_ENVIRONMENT,
            f"CNI_CONTAINERID {container!r}: a letter or digit, then letters, digits, '_', '.' and '-'",
        )
    if not INTERFACE.fullmatch(ifname := environment["CNI_IFNAME"]) or ifname in {".", ".."}:
        raise CNIError(
            ErrorCode.INVALID_ENVIRONMENT, f"CNI_IFNAME {ifname!r}: 1 to 15 characters, no '/', no ':', no space"
        )


def _split(payload: bytes) -> tuple[dict[str, str], bytes]:
    environment: dict[str, str] = {}
    position = 0
    while True:
        end = payload.find(b"\0", position)
        if end < 0:
            raise CNIError(ErrorCode.DECODE_FAILURE, "truncated request: the environment has no end")
        if end == position:
            return environment, payload[end + 1 :]
        name, _, value = payload[position:end].decode("utf-8", "replace").partition("=")
        environment[name] = value
        position = end + 1


def _decode_config(stdin: bytes) -> dict[str, Any]:
    try:
        config = msgspec.json.decode(stdin)
    except msgspec.DecodeError as error:
        raise CNIError(ErrorCode.DECODE_FAILURE, f"network configuration on stdin is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CNIError(ErrorCode.INVALID_NETWORK_CONFIG, "network configuration on stdin must be a JSON object")
    version = config.get("cniVersion", "0.3.1")
    if version not in SUPPORTED_VERSIONS:
        raise CNIError(
            ErrorCode.INCOMPATIBLE_VERSION,
            f"cniVersion {version!r} is not supported; supported: {', '.join(SUPPORTED_VERSIONS)}",
        )
    return config


def _is_result(previous: Any) -> bool:
    return isinstance(previous, dict) and all(
        isinstance(previous.get(name) or [], list) for name in ("interfaces", "ips", "routes")
    )


def _decode_args(text: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in text.split(";") if pair)


def encode_error(error: CNIError, version: str = "1.0.0") -> bytes:
    body = {"cniVersion": version, "code": int(error.code), "msg": error.message}
    if error.details:
        body["details"] = error.details
    return msgspec.json.encode(body)


def encode_version() -> bytes:
    return msgspec.json.encode({"cniVersion": SUPPORTED_VERSIONS[-1], "supportedVersions": SUPPORTED_VERSIONS})


def encode_result(result: Result, request: Request) -> bytes:
    """The success result in the shape of the request's version, appended to a prevResult if there is one."""
    previous = request.previous or {}
    interfaces: list[Any] = list(previous.get("interfaces") or [])
    ips: list[Any] = list(previous.get("ips") or [])
    offset = len(interfaces)
    interfaces += [_interface(interface, result.mtu, request.version) for interface in result.interfaces]
    ips += [_address(address, offset, request.version) for address in result.ips]
    body = {
        "cniVersion": request.version,
        "interfaces": interfaces,
        "ips": ips,
        "routes": list(previous.get("routes") or []) + list(result.routes),
        "dns": previous.get("dns") or {},
    }
    return msgspec.json.encode(body)


def _interface(interface: Interface, mtu: int, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {"name": interface.name, "mac": interface.mac}
    if interface.sandbox:
        body["sandbox"] = interface.sandbox
    if mtu and version == "1.1.0":
        body["mtu"] = mtu
    return body


def _address(address: Address, offset: int, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "address": str(address.address),
        "gateway": address.gateway,
        "interface": offset + address.interface,
    }
    if version.startswith("0."):
        body["version"] = str(address.address.version)
    return body

"""CNI: the network configuration list, the plugins' execution, and cached results.

In: the first configuration in /etc/cni/net.d, the sandbox. Out: CNI results; CniError with the plugin's own words.
Source: CNI specification 1.1.0, sections 1 (configuration), 2 (execution), 3 (chaining, caching).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from kubelab.kubelet.answers import Answer, answer
from kubelab.kubelet.config import Object

INTERFACE = "eth0"
TIMEOUT = 60.0


class CniError(Exception):
    """A plugin failed or is missing; ``code`` is the plugin's (CNI section 5), 0 when it had none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class NetworkList:
    """A configuration list: its name, version and plugins in order."""

    name: str
    version: str
    plugins: list[Object]
    disable_check: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One sandbox's place in the network, as plugins are told."""

    container_id: str
    netns: str
    namespace: str
    pod: str
    uid: str
    capabilities: Object = field(default_factory=dict)

    @property
    def args(self) -> str:
        return (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.pod};"
            f"K8S_POD_INFRA_CONTAINER_ID={self.container_id};K8S_POD_UID={self.uid}"
        )


def load(directory: Path) -> NetworkList:
    """The lexically first usable configuration. Raises CniError when there is none or it is broken."""
    if directory.is_dir():
        for path in sorted(directory.iterdir()):
            if path.suffix in (".conflist", ".conf", ".json"):
                return _parse(path)
    raise CniError(f"no network configuration in {directory}")


def _parse(path: Path) -> NetworkList:
    try:
        raw = json.loads(path.read_text())
        plugins = raw.get("plugins", [raw])
        if not plugins or not all(plugin.get("type") for plugin in plugins):
            raise CniError(f"{path}: plugins: every plugin needs a type")
        version = raw.get("cniVersion", "0.4.0")
        return NetworkList(raw["name"], version, plugins, bool(raw.get("disableCheck", False)))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CniError(f"{path}: not a network configuration: {error!r}") from error


class Cni:
    """Runs configuration lists for sandboxes and caches what they returned, so that DEL and CHECK get it back."""

    def __init__(self, configs: Path, binaries: Path, cache: Path) -> None:
        self._configs, self._binaries, self._cache = configs, binaries, cache
        self._cache.mkdir(parents=True, exist_ok=True)

    def ready(self) -> str | None:
        """None when pods can be attached, otherwise the reason why not."""
        try:
            plugins = load(self._configs).plugins
        except CniError as error:
            return str(error)
        missing = [p["type"] for p in plugins if not os.access(self._binaries / p["type"], os.X_OK)]
        return f"no executable {missing[0]} in {self._binaries}" if missing else None

    async def add(self, attachment: Attachment) -> Object:
        """ADD through the whole list; the last plugin's result. A failed ADD is undone with DEL by the caller."""
        network = load(self._configs)
        self._store(attachment, network, None)
        result: Object | None = None
        for plugin in network.plugins:
            result = await self._run("ADD", network, plugin, attachment, result)
        self._store(attachment, network, result)
        return result or {}

    async def check(self, attachment: Attachment) -> None:
        """CHECK through the list with the cached result. Raises CniError."""
        network, result = self._load(attachment)
        if not network.disable_check:
            for plugin in network.plugins:
                await self._run("CHECK", network, plugin, attachment, result)

    async def delete(self, attachment: Attachment) -> None:
        """DEL in reverse order with the cached result; forgets the attachment when all plugins succeeded."""
        try:
            network, result = self._load(attachment)
        except FileNotFoundError:
            return
        for plugin in reversed(network.plugins):
            await self._run("DEL", network, plugin, attachment, result)
        self._path(attachment).unlink(missing_ok=True)

    def cached(self) -> list[Attachment]:
        """Attachments that were added and not yet deleted, also by an earlier kubelet."""
        found = []
        for path in self._cache.glob("*.json"):
            raw = json.loads(path.read_text())["attachment"]
            found.append(Attachment(**raw))
        return found

    def _path(self, attachment: Attachment) -> Path:
        return self._cache / f"{attachment.container_id}.json"

    def _store(self, attachment: Attachment, network: NetworkList, result: Object | None) -> None:
        fields = ("container_id", "netns", "namespace", "pod", "uid", "capabilities")
        raw = {
            "attachment": {name: getattr(attachment, name) for name in fields},
            "network": {"name": network.name, "version": network.version, "plugins": network.plugins,
                        "disable_check": network.disable_check},
            "result": result,
        }  # fmt: skip
        self._path(attachment).write_text(json.dumps(raw))

    def _load(self, attachment: Attachment) -> tuple[NetworkList, Object | None]:
        raw = json.loads(self._path(attachment).read_text())
        return NetworkList(**raw["network"]), raw["result"]

    async def _run(
        self, command: str, network: NetworkList, plugin: Object, attachment: Attachment, previous: Object | None
    ) -> Object | None:
        config = {**plugin, "name": network.name, "cniVersion": network.version}
        wanted = {key for key, on in (plugin.get("capabilities") or {}).items() if on}
        runtime = {key: value for key, value in attachment.capabilities.items() if key in wanted}
        if runtime:
            config["runtimeConfig"] = runtime
        if previous is not None:
            config["prevResult"] = previous
        environment = self._environment(command, attachment)
        return await self._execute(str(self._binaries / plugin["type"]), environment, json.dumps(config).encode())

    def _environment(self, command: str, attachment: Attachment) -> dict[str, str]:
        # DEL of a sandbox whose namespace is gone gets no CNI_NETNS (specification, section 2).
        gone = command == "DEL" and not os.path.exists(attachment.netns)
        return {
            "PATH": os.environ.get("PATH", ""),
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": "" if gone else attachment.netns,
            "CNI_IFNAME": INTERFACE,
            "CNI_ARGS": attachment.args,
            "CNI_PATH": str(self._binaries),
        }

    async def _execute(self, binary: str, environment: dict[str, str], config: bytes) -> Object | None:
        name = os.path.basename(binary)
        command = environment["CNI_COMMAND"]
        try:  # also when cancelled: nothing of an ADD may be under way when its DEL comes
            done = await answer([binary], environment, given=config, timeout=TIMEOUT)
        except TimeoutError as error:
            raise CniError(f"plugin {name} {command}: no answer within {TIMEOUT:.0f} s") from error
        except OSError as error:
            raise CniError(f"plugin {binary}: {error.strerror}") from error
        if done.code:
            raise _failure(name, command, done)
        if command != "ADD":
            return None
        try:
            result = json.loads(done.out)
        except ValueError as error:
            raise CniError(f"plugin {name} {command}: result is not JSON: {done.out[:200]!r}") from error
        if not isinstance(result, dict):
            raise CniError(f"plugin {name} {command}: result is not an object: {done.out[:200]!r}")
        return result


def _failure(name: str, command: str, done: Answer) -> CniError:
    try:
        raw = json.loads(done.out)
        text = ": ".join(part for part in (raw.get("msg"), raw.get("details")) if part)
        return CniError(f'plugin type="{name}" failed ({command.lower()}): {text}', int(raw.get("code", 0)))
    except (ValueError, AttributeError, TypeError):
        said = (done.err or done.out).decode(errors="replace").strip()[-500:]
        return CniError(f'plugin type="{name}" failed ({command.lower()}): exit status {done.code}: {said}')


def addresses(result: Object) -> list[str]:
    """The pod's addresses in a result, those of the sandbox's interfaces, in the plugin's order."""
    interfaces = result.get("interfaces") or []
    found = []
    for entry in result.get("ips") or []:
        index = entry.get("interface")
        if isinstance(index, int) and 0 <= index < len(interfaces) and not interfaces[index].get("sandbox"):
            continue
        found.append(str(entry["address"]).partition("/")[0])
    return found

"""A store with all built-in strategies, in memory, and the objects that the tests write."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from unit.kubelab.apiserver.wire import context

from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.crds import CustomResources
from kubelab.apiserver.persistence import Database
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.server import ApiServer
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog
from kubelab.apiserver.tables import Tables

Object = dict[str, Any]
OpenStore = Callable[[Path | None], Store]


@pytest.fixture
def open_store() -> OpenStore:
    """Open a store as the server does; a path keeps it across calls."""

    def make(path: Path | None) -> Store:
        registry, schemas = Registry(builtin_resources()), Schemas()
        store = Store(registry, strategies=StrategyCatalog(schemas), database=Database(path))
        CustomResources(store, registry, schemas, Tables()).load()
        return store

    return make


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    store = open_store(None)
    await store.create("namespaces", {"metadata": {"name": "default"}})
    return store


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(data_dir=tmp_path / "data", binds=[("127.0.0.1", 0), ("::1", 0)]) as running:
        yield running


@pytest.fixture
async def http(server: ApiServer, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(ssl=context(server, tmp_path))
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        yield session


@pytest.fixture
def pod() -> Callable[..., Object]:
    def make(name: str = "web", **metadata: Any) -> Object:
        spec = {"containers": [{"name": "main", "image": "busybox:1"}]}
        return {"metadata": {"name": name, **metadata}, "spec": spec}

    return make


@pytest.fixture
def widget_crd() -> Object:
    """A CRD with limits, a default, an enum, an open corner and a status subresource."""
    spec_schema = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10},
            "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
            "port": {"x-kubernetes-int-or-string": True},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": spec_schema,
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return {
        "metadata": {"name": "widgets.demo.io"},
        "spec": {
            "group": "demo.io",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [version],
        },
    }

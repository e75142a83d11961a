"""The API server: composition and life.

Owns: the pieces of one server, wired. Comes in: a data directory, addresses, names for the certificate. Goes out: a
running server, its `store` for in-process controllers, kubeconfigs.

    async with ApiServer(data_dir=Path("/tmp/x"), binds=[("127.0.0.1", 0)]) as server:
        server.store            see store.py
        server.url              https://127.0.0.1:<port>
        server.write_kubeconfig(Path("admin.kubeconfig"), user="kubernetes-admin", groups=["system:masters"])
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import structlog
from aiohttp import web

from kubelab.apiserver.accounts import DefaultAccounts
from kubelab.apiserver.admission.chain import plugins
from kubelab.apiserver.admission.conditions import Conditions
from kubelab.apiserver.admission.policies import PolicyAdmission
from kubelab.apiserver.admission.webhooks.dispatch import WebhookAdmission
from kubelab.apiserver.authentication import Authenticator
from kubelab.apiserver.authorization.chain import Chain, Masters
from kubelab.apiserver.authorization.node import NodeAuthorizer
from kubelab.apiserver.authorization.rbac import RbacAuthorizer
from kubelab.apiserver.bootstrap import create_namespaces, create_policy, publish_addresses
from kubelab.apiserver.builtins import builtin_resources
from kubelab.apiserver.computed import Computed
from kubelab.apiserver.crds import CustomResources
from kubelab.apiserver.custom_conversion import Conversions
from kubelab.apiserver.decoding import Decoder
from kubelab.apiserver.handlers import ResourceHandlers
from kubelab.apiserver.keeper import Keeper
from kubelab.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from kubelab.apiserver.kubelets import Kubelets
from kubelab.apiserver.openapi import OpenApi
from kubelab.apiserver.persistence import Database
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.responses import Renderer
from kubelab.apiserver.reviews import Reviews
from kubelab.apiserver.routes import Routes
from kubelab.apiserver.schemas import Schemas
from kubelab.apiserver.store import Store
from kubelab.apiserver.strategies.catalog import StrategyCatalog
from kubelab.apiserver.strategies.pods import DEFAULT_TOLERATION_SECONDS
from kubelab.apiserver.strategies.services import SERVICE_RANGES, ServiceRanges
from kubelab.apiserver.subresources import Subresources
from kubelab.apiserver.tables import Tables
from kubelab.apiserver.tls import Authority
from kubelab.apiserver.tokens import Tokens
from kubelab.apiserver.webhooks.client import WebhookClient

Address = tuple[str, int]
_ALWAYS_NAMED = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "127.0.0.1",
    "::1",
)

log = structlog.get_logger(__name__)


class ApiServer:
    """See the module docstring. `binds` with port 0 take a free port; `addresses` tells which. `service_ranges`: one
    per family of the cluster, the primary first. `default_toleration_seconds`: for which pods stay on a node that is
    not ready."""

    def __init__(
        self,
        *,
        data_dir: Path,
        binds: Sequence[Address] = (("127.0.0.1", 0),),
        tls_names: Iterable[str] = (),
        service_ranges: ServiceRanges = SERVICE_RANGES,
        default_toleration_seconds: int = DEFAULT_TOLERATION_SECONDS,
    ) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._binds = list(binds)
        self._ranges = service_ranges
        self._names = [*tls_names, *(str(network[1]) for network in service_ranges)]
        self.registry = Registry(builtin_resources())
        self.schemas = Schemas()
        self.tables = Tables()
        strategies = StrategyCatalog(self.schemas, service_ranges, default_toleration_seconds)
        self.store = Store(self.registry, strategies=strategies, database=Database(data_dir / "objects.sqlite"))
        self.crds = CustomResources(self.store, self.registry, self.schemas, self.tables)
        self.authority = Authority(data_dir / "pki")
        self.tokens = Tokens(self.authority.signing_key())
        self.addresses: list[Address] = []
        self.kubelets = Kubelets(self.store)
        rbac = RbacAuthorizer(self.store)
        authorizer = Chain([Masters(), NodeAuthorizer(self.store), rbac])
        authenticator = Authenticator(self.tokens, self.store)
        client, conditions = WebhookClient(self.store, self.kubelets), Conditions(authorizer)
        conversions = Conversions(self.store, self.schemas, client)
        self.store.admission = plugins(rbac, authorizer, PolicyAdmission(self.store, conditions))
        self.store.webhooks = WebhookAdmission(self.store, client, conversions, strategies, conditions)
        DefaultAccounts(self.store)
        renderer = Renderer(self.tables)
        self.computed = Computed(self.store, self.registry, self.schemas, self.tables, renderer)
        handlers = ResourceHandlers(self.store, self.schemas, renderer, Decoder(), conversions)
        self._routes = Routes(
            registry=self.registry,
            handlers=handlers,
            subresources=Subresources(self.store, handlers, self.tokens, self.kubelets),
            computed=self.computed,
            openapi=OpenApi(self.registry, self.schemas),
            authenticator=authenticator,
            authorizer=authorizer,
            reviews=Reviews(authenticator, authorizer, rbac),
            written=self.store.written,
        )
        self._runner: web.AppRunner | None = None
        self._keeper = Keeper(self.store, self._publish)
        self._keeping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The first address, as clients write it."""
        host, port = self.addresses[0]
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    async def start(self) -> None:
        """Serve. Raises RuntimeError naming the address that is taken."""
        self.crds.load()
        await create_namespaces(self.store, self._ranges)
        await create_policy(self.store)
        # Handlers of idle watches must end when their client goes, not at their next write.
        self._runner = web.AppRunner(
            self._routes.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        await self._runner.setup()
        context = self.authority.server_context([*_ALWAYS_NAMED, *(h for h, _ in self._binds), *self._names])
        for host, port in self._binds:
            try:
                listener = _listen(host, port)
                await web.SockSite(self._runner, listener, ssl_context=context).start()
            except OSError as error:
                await self.stop()
                raise RuntimeError(
                    f"cannot listen on {host} port {port}: {error.strerror}; end what listens there, or bind elsewhere"
                ) from error
            self.addresses.append((host, listener.getsockname()[1]))
        await self._publish()
        self._keeping = asyncio.create_task(self._keeper.run(), name="keeper")
        log.info("API server ready", addresses=[f"{h} {p}" for h, p in self.addresses], version=self.store.version)

    async def stop(self) -> None:
        """End watches first, so that connections can close, then the listeners, then the file."""
        if self._keeping is not None:
            self._keeping.cancel()
        self.store.close_watches()
        await self.kubelets.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.store.close()

    async def _publish(self) -> None:
        """Where the API server is, for who is in the cluster."""
        await create_namespaces(self.store, self._ranges)
        await publish_addresses(self.store, self.addresses)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(self.stop())

    def write_kubeconfig(
        self, path: Path, *, user: str, groups: Sequence[str] = (), server: str = "", cluster: str = "kubelab"
    ) -> None:
        """A kubeconfig with a fresh client certificate for `user`; `server` defaults to the first address."""
        client = self.authority.client(user, groups=groups)
        content = kubeconfig(
            server=server or self.url,
            authority=self.authority.certificate,
            client=client,
            cluster=cluster,
            user=user,
        )
        write_kubeconfig(path, content)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener

"""From URL to handler.

Owns: the URL space of the server, authentication and error rendering around it. Comes in: HTTP requests. Goes out:
responses; every error leaves as a Status object.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web

from kubelab.apiserver import discovery
from kubelab.apiserver.authentication import Authenticator
from kubelab.apiserver.authorization.attributes import request_attributes
from kubelab.apiserver.authorization.chain import Chain
from kubelab.apiserver.computed import Computed
from kubelab.apiserver.errors import (
    ApiError,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    Unauthorized,
)
from kubelab.apiserver.handlers import ResourceHandlers
from kubelab.apiserver.health import add_health
from kubelab.apiserver.impersonation import impersonated
from kubelab.apiserver.openapi import OpenApi
from kubelab.apiserver.openapi.served import add_routes as add_openapi
from kubelab.apiserver.requests import ASKED, Target, negotiate, parse_target
from kubelab.apiserver.resources import Registry
from kubelab.apiserver.responses import add_warnings, error_response, json_response
from kubelab.apiserver.reviews import Reviews
from kubelab.apiserver.subresources import Subresources
from kubelab.apiserver.tokens import ISSUER
from kubelab.apiserver.users import REQUESTER, WARNINGS, User, warn

log = structlog.get_logger(__name__)

_OPEN_PATHS = ("/healthz", "/readyz", "/livez", "/version")
_USER = web.RequestKey("user", User)
_MAX_BODY = 3 * 1024 * 1024


class Routes:
    def __init__(
        self,
        *,
        registry: Registry,
        handlers: ResourceHandlers,
        subresources: Subresources,
        computed: Computed,
        openapi: OpenApi,
        authenticator: Authenticator,
        authorizer: Chain,
        reviews: Reviews,
        written: Callable[[], Awaitable[None]],
    ) -> None:
        self._registry = registry
        self._handlers = handlers
        self._subresources = subresources
        self._computed = computed
        self._openapi = openapi
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._reviews = reviews
        self._written = written

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=_MAX_BODY)
        router = application.router
        # First: paths are tried in order, and most requests are for resources.
        router.add_route("*", "/api/{version}/{path:.+}", self._resource)
        router.add_route("*", "/apis/{group}/{version}/{path:.+}", self._resource)
        add_health(router)
        router.add_get("/version", _version)
        router.add_get("/version/", _version)
        router.add_get("/", self._index)
        router.add_get("/.well-known/openid-configuration", self._issuer)
        router.add_get("/openid/v1/jwks", self._keys)
        add_openapi(router, self._openapi)
        for path in ("/api", "/api/"):
            router.add_get(path, self._core)
        for path in ("/apis", "/apis/"):
            router.add_get(path, self._groups)
        router.add_get("/apis/{group}", self._group)
        router.add_get("/apis/{group}/", self._group)
        for path in ("/api/{version}", "/api/{version}/", "/apis/{group}/{version}", "/apis/{group}/{version}/"):
            router.add_get(path, self._resources)
        return application

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Know the user; turn errors into Status objects."""
        try:
            if request.path.startswith(_OPEN_PATHS):
                return await handler(request)
            request[_USER] = self._admit(request)
            response = await _on_behalf_of(request, handler)
            await self._written()
            return response
        except Unauthorized as error:
            # Why it is refused is nobody's business but the server's.
            log.info("not authenticated", method=request.method, path=request.path, why=error.message)
            return error_response(Unauthorized("Unauthorized"))
        except Forbidden as error:
            log.info("forbidden", method=request.method, path=request.path, why=error.message)
            return error_response(error)
        except ApiError as error:
            return error_response(error)
        except web.HTTPRequestEntityTooLarge:
            return error_response(RequestEntityTooLarge(f"Request entity too large: limit is {_MAX_BODY}"))
        except web.HTTPException as error:
            return error_response(
                NotFound("the server could not find the requested resource")
                if error.status == 404
                else _http_error(error)
            )
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            log.exception("request failed", method=request.method, path=request.path)
            return error_response(InternalError(f"internal error: {type(error).__name__}: {error}"))

    def _admit(self, request: web.Request) -> User:
        """The user of a request that may go on. Raises Unauthorized, Forbidden."""
        # Read once, at the handshake: to ask the TLS object costs a decoding of the certificate.
        certificate = request.transport.get_extra_info("peercert") if request.transport else None
        user = self._authenticator.authenticate(
            certificate=certificate,
            authorization=request.headers.get("Authorization", ""),
        )
        user = impersonated(user, request.headers, self._authorizer)
        self._authorizer.check(request_attributes(user, request.method, request.path, request.query))
        return user

    # ---- resources -----------------------------------------------------------------------------------------------

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        info = request.match_info
        target = parse_target(self._registry, group=info.get("group", ""), version=info["version"], path=info["path"])
        ASKED.set(target.version)
        if warning := dict(target.resource.deprecations).get(target.version):
            warn(warning)
        if target.resource.verbs == ("create",):
            return await self._review(request, target)
        if self._computed.serves(target.resource):
            return await self._computed.handle(request, target)
        if target.subresource:
            return await self._subresources.handle(request, target)
        return await self._handlers.handle(request, target)

    async def _review(self, request: web.Request, target: Target) -> web.Response:
        if request.method != "POST" or target.name:
            raise MethodNotAllowed("the server does not allow this method on the requested resource")
        body, warnings = await self._handlers.bodies.read(request, target)
        answer = self._reviews.answer(target.resource, body, request[_USER], namespace=target.namespace)
        return json_response(answer, status=201, warnings=warnings)

    # ---- discovery -----------------------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.Response:
        paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
        paths += [f"/apis/{g}" for g in self._registry.groups() if g]
        return json_response({"paths": sorted(paths)})

    async def _core(self, request: web.Request) -> web.Response:
        return self._aggregated(request, core=True) or json_response(discovery.core_versions())

    async def _groups(self, request: web.Request) -> web.Response:
        return self._aggregated(request, core=False) or json_response(discovery.group_list(self._registry))

    def _aggregated(self, request: web.Request, *, core: bool) -> web.Response | None:
        negotiation = negotiate(request.headers.get("Accept", ""))
        if negotiation.form != "APIGroupDiscoveryList":
            return None
        body = discovery.encode(discovery.aggregated(self._registry, core=core))
        headers = {"ETag": discovery.etag(body), "Content-Type": negotiation.content_type, "Vary": "Accept"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers=headers)

    async def _group(self, request: web.Request) -> web.Response:
        return _found(discovery.group(self._registry, request.match_info["group"]))

    async def _resources(self, request: web.Request) -> web.Response:
        info = request.match_info
        return _found(discovery.resource_list(self._registry, info.get("group", ""), info["version"]))

    # ---- the issuer of tokens ------------------------------------------------------------------------------------

    async def _issuer(self, request: web.Request) -> web.Response:
        return json_response(
            {
                "issuer": ISSUER,
                "jwks_uri": f"https://{request.host}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )

    async def _keys(self, request: web.Request) -> web.Response:
        return json_response(self._authenticator.public_keys, content_type="application/jwk-set+json")


async def _version(request: web.Request) -> web.Response:
    return json_response(discovery.VERSION)


def _found(obj: dict[str, Any] | None) -> web.Response:
    if obj is None:
        raise NotFound("the server could not find the requested resource")
    return json_response(obj)


def _http_error(error: web.HTTPException) -> ApiError:
    class _HttpError(ApiError):
        code, reason = error.status, error.reason.replace(" ", "")

    return _HttpError(error.text or error.reason)


async def _on_behalf_of(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Handle the request with its user and its warnings known to whoever writes."""
    warnings: list[str] = []
    requester, collecting = REQUESTER.set(request[_USER]), WARNINGS.set(warnings)
    try:
        response = await handler(request)
    finally:
        REQUESTER.reset(requester)
        WARNINGS.reset(collecting)
    if not response.prepared:
        add_warnings(response, warnings)
    return response

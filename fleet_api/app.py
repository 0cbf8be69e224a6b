"""The application: routes, errors, middleware."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from fleet_api.access.door import Door
from fleet_api.access.guarding import guard
from fleet_api.access.openapi import with_access
from fleet_api.adapters.ansible.play import Plays
from fleet_api.adapters.ssh.types import Ssh
from fleet_api.errors import FleetError
from fleet_api.kit.clock import Clock
from fleet_api.kit.middleware import Normalise
from fleet_api.kit.openapi import without_default_422
from fleet_api.kit.shortcut import Shortcut
from fleet_api.kit.validation import sentence
from fleet_api.lifespan import KeptEngines, build, running
from fleet_api.routes import (
    agent_engines,
    agent_models,
    agents,
    audit,
    backups,
    clusters,
    containers,
    dashboard,
    deliveries,
    fleet,
    gallery,
    health,
    install_queue,
    joining,
    keys,
    metrics,
    models,
    network,
    nodes,
    operations,
    outputs,
    queue,
    schedule,
    services,
    session,
    ssh,
    swarm,
    uploads,
    vault,
    vision,
    vision_engines,
    websocket,
)
from fleet_api.routes import (
    build as building,
)
from fleet_api.settings import Settings
from fleet_api.version import __version__

log = structlog.get_logger()

CHAPTERS = (
    queue, deliveries, agents, agent_models, agent_engines, vision, models, vision_engines, uploads,
    gallery, outputs, fleet, nodes, network, joining, install_queue, building, operations, schedule, backups, ssh, vault,
    health, websocket, session, keys, audit, metrics, dashboard, swarm, services, containers, clusters,
)  # fmt: skip
EXPOSED_HEADERS = ["X-Seed", "X-Filename", "X-Job-Id", "X-Node-Id", "X-Request-Id", "Retry-After", "Idempotent-Replayed"]

FORM_BYTES = 64 * 1024  # of a form that are not its file

DESCRIPTION = """One control plane for a fleet of NVIDIA Jetson and other GPU machines.

On this machine's loopback no key is wanted. Elsewhere send one as `Authorization: Bearer <key>` or `X-API-Key`; each operation's
`x-role` is the role it wants. Every error is `{"detail": "<one sentence>"}`. A path works with and without its trailing slash.
Times are RFC 3339 in UTC.
"""


def create_app(
    settings: Settings, clock: Clock | None = None, plays: Plays | None = None, machines: Ssh | None = None,
    engines: KeptEngines | None = None,
) -> FastAPI:  # fmt: skip
    """Return the application; its state is built when it starts. What else is given stands in for the real thing in tests."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = build(settings, clock, plays, machines, engines)
        app.state.fleet = state
        async with running(state):
            yield

    app = FastAPIOffline(
        title="Fleet Commander",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
        static_url="/docs-assets",
    )
    for chapter in CHAPTERS:
        # One flat list, as a nested router costs 80 us a request. Copies, as each application guards its own.
        app.router.routes.extend(copy.copy(route) for route in chapter.router.routes)
    guard(app.router.routes)
    app.router.middleware_stack = Shortcut(app.router, app.router.routes)
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    form_limit = settings.model_limit + FORM_BYTES
    uploads_of = ("/api/vision/uploads/", "/api/vision/models/upload", "/api/vision/loras/upload")
    limits = {"/api/agents/uploads/": settings.upload_limit, "/api/agents/engines/": max(settings.engine_store_limit, settings.body_limit)}
    limits.update(dict.fromkeys(uploads_of, form_limit))
    app.add_middleware(Normalise, limit=settings.body_limit, upload_limits=limits)
    origins = frozenset(settings.allowed_origins)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=sorted(origins), allow_methods=["*"], allow_headers=["*"], expose_headers=EXPOSED_HEADERS
        )
    app.add_middleware(Door, listens_on=settings.host, hosts=settings.names, origins=origins)
    describe = app.openapi
    app.openapi = lambda: with_access(without_default_422(describe()))  # type: ignore[method-assign]
    return app


async def _fleet_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FleetError)
    return JSONResponse({"detail": error.detail}, error.status, headers=error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": sentence(error.errors(), _fields(request))}, 400)


def _fields(request: Request) -> Mapping[str, FieldInfo]:
    route = request.scope.get("route")
    fields: dict[str, FieldInfo] = {}
    if isinstance(route, APIRoute):
        for parameter in (*route.dependant.query_params, *route.dependant.path_params, *route.dependant.header_params):
            fields[parameter.alias] = parameter.field_info
        if route.body_field is not None:
            _collect(route.body_field.field_info.annotation, fields)
    return fields


def _collect(model: Any, fields: dict[str, FieldInfo]) -> None:
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, info in model.model_fields.items():
            fields[name] = info
            for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
                _collect(inner, fields)


_PLAIN = {404: "There is nothing at this address.", 405: "This address does not take that method."}


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, FleetError):  # raised while FastAPI read the body
        return await _fleet_error(request, error.__cause__)
    detail = str(error.detail)
    if error.status_code in _PLAIN and detail in ("Not Found", "Method Not Allowed"):
        detail = _PLAIN[error.status_code]
    elif error.status_code == 400 and "parsing the body" in detail:
        detail = "The request body is not valid JSON."
    headers = {"Allow": ", ".join(_methods(request))} if error.status_code == 405 else error.headers
    return JSONResponse({"detail": detail}, error.status_code, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return every method that this address takes: those of the first path that fits it."""
    routes = [route for route in request.app.router.routes if isinstance(route, Route)]
    path = next((route.path for route in routes if route.matches(request.scope)[0] is not Match.NONE), None)
    return sorted({method for route in routes if route.path == path for method in route.methods or ()})

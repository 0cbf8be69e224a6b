"""The API process: lock, schema, socket, uvicorn."""

from __future__ import annotations

import gc
import socket

import structlog
import uvicorn
from fastapi import FastAPI

from fleet_api import logs
from fleet_api.app import create_app
from fleet_api.kit import home
from fleet_api.kit.listen import bind
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings

log = structlog.get_logger()

DRAIN_SECONDS = 3
GC_THRESHOLD = (20_000, 20, 50)  # at Python's 700 a long queue is walked again and again


class Server(uvicorn.Server):
    """Lets go of everyone who waits before it drains, so that a stop takes no longer than the work in hand."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer polls and synchronous callers, then drain."""
        fleet = getattr(self._app.state, "fleet", None)
        if fleet is not None:
            fleet.dispatcher.close()
            fleet.jobs.ends.close()
        await super().shutdown(sockets=sockets)


def serve(settings: Settings) -> None:
    """Serve the API until SIGINT or SIGTERM.

    Raises:
        HomeBusy: another process serves this data folder.
        PortBusy: the port is taken.
        FleetError: the database cannot be used; the sentence says why.
    """
    logs.configure(settings.log_level)
    gc.set_threshold(*GC_THRESHOLD)
    with home.claim(settings.home, "api.lock"):
        upgrade(settings.database)
        listener = bind(settings.host, settings.port)
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            server_header=False,
        )
        log.info("serving", host=settings.host, port=listener.getsockname()[1])
        Server(config, app).run(sockets=[listener])

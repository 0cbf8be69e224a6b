"""The API process: lock, schema, socket, uvicorn."""

from __future__ import annotations

import gc
import sys

import structlog
import uvicorn

from fleet_api import logs
from fleet_api.app import create_app
from fleet_api.kit import home
from fleet_api.kit.listen import bind
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings

log = structlog.get_logger()

SWITCH_INTERVAL = 0.0005  # seconds; at Python's 5 ms the database's writer waits that long for the interpreter at each statement
DRAIN_SECONDS = 3
GC_THRESHOLD = (20_000, 20, 50)  # at Python's 700 a long queue is walked again and again


def serve(settings: Settings) -> None:
    """Serve the API until SIGINT or SIGTERM.

    Raises:
        HomeBusy: another process serves this data folder.
        PortBusy: the port is taken.
        FleetError: the database cannot be used; the sentence says why.
    """
    logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(*GC_THRESHOLD)
    with home.claim(settings.home, "api.lock"):
        upgrade(settings.database)
        listener = bind(settings.host, settings.port)
        config = uvicorn.Config(
            create_app(settings),
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            server_header=False,
        )
        log.info("serving", host=settings.host, port=listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])

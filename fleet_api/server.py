"""The API process: lock, schema, certificate, socket, uvicorn."""

from __future__ import annotations

import gc
import socket

import structlog
import uvicorn
from fastapi import FastAPI

from fleet_api import logs
from fleet_api.access import certificates, listening
from fleet_api.app import create_app
from fleet_api.errors import FleetError
from fleet_api.kit import home
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.http_limits import LimitedHttp, raise_file_limit
from fleet_api.kit.listen import bind
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings

log = structlog.get_logger()

DRAIN_SECONDS = 3
LONGEST_WORD = 64 * 1024  # bytes that a WebSocket client may send at once; what they send is read and dropped
GC_THRESHOLD = (20_000, 20, 50)  # at Python's 700 a long queue is walked again and again
CERTIFICATE_TICKS = 50  # of a tenth of a second: how often the certificate is looked at, 1 ms each


class Server(uvicorn.Server):
    """Lets go of everyone who waits before it drains, so that a stop takes no longer than the work in hand.

    It serves a renewed certificate without a restart: one that ``fleet tls`` made, or its own before it ends.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._serves = certificates.show(settings.tls_folder) if settings.scheme == "https" else None
        self._warned, self._trouble = 0.0, ""

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, and look at the certificate every five seconds."""
        if self._serves is not None and counter % CERTIFICATE_TICKS == CERTIFICATE_TICKS - 1:
            self.renew()
        return await super().on_tick(counter)

    def renew(self) -> None:
        """Serve the certificate that is in the folder now, made anew if the present one comes to its end."""
        now = SystemClock().now()
        try:
            current = listening.certificate(self._settings, SystemClock())
            if current != self._serves:
                listening.secure(self.config, self._settings)
                self._serves = current
                log.info("certificate_renewed", fingerprint=current.fingerprint if current else "")
            if (sentence := listening.ends_soon(current, now)) and now - self._warned >= listening.DAY:
                self._warned = now
                log.warning("CERTIFICATE ENDS", what=sentence)
            self._trouble = ""
        except (FleetError, OSError) as error:
            if str(error) != self._trouble:
                log.error("certificate_not_renewed", reason=str(error))
            self._trouble = str(error)

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
        FleetError: the database or the certificate cannot be used; the sentence says why.
    """
    logs.configure(settings.log_level)
    gc.set_threshold(*GC_THRESHOLD)
    raise_file_limit()
    with home.claim(settings.home, "api.lock"):
        upgrade(settings.database)
        served = listening.certificate(settings, SystemClock())
        listener = bind(settings.host, settings.port)
        port = listener.getsockname()[1]
        app = create_app(settings.model_copy(update={"port": port}))
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=LimitedHttp,
            ws="websockets-sansio",
            ws_max_size=LONGEST_WORD,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            server_header=False,
            proxy_headers=False,  # a header must not decide who is on this machine
        )
        if served is not None:
            listening.secure(config, settings)
        home.note_addresses(settings.home, listening.local_url(settings, port, served), listening.public_url(settings, port))
        for sentence in listening.loud(settings):
            log.warning("DOOR OPEN", what=sentence)
        log.info("serving", host=settings.host, port=port, scheme=settings.scheme)
        Server(config, app, settings).run(sockets=[listener])

"""The API on a real socket, in a thread of the test's own process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI

from fleet_api.access import listening
from fleet_api.adapters.ansible.play import Plays
from fleet_api.app import create_app
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.http_limits import LimitedHttp
from fleet_api.kit.listen import bind
from fleet_api.lifespan import State
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings

T = TypeVar("T")


@dataclass
class Live:
    """A running API."""

    url: str
    app: FastAPI
    loop: asyncio.AbstractEventLoop

    @property
    def fleet(self) -> State:
        return self.app.state.fleet

    def call(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something on the API's own event loop, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(30)

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1)


@contextmanager
def live(settings: Settings, plays: Plays | None = None) -> Iterator[Live]:
    """Serve while the context is open, with the real plays unless a test brings its own."""
    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.database)
    served = listening.certificate(settings, SystemClock())
    listener = bind(settings.host, settings.port)
    app = create_app(settings.model_copy(update={"port": listener.getsockname()[1]}), None, plays)
    config = uvicorn.Config(
        app, http=LimitedHttp, ws="websockets-sansio", log_config=None, proxy_headers=False, timeout_graceful_shutdown=1
    )
    if served is not None:
        listening.secure(config, settings)
    server = uvicorn.Server(config)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the API did not start"
        time.sleep(0.01)
    try:
        yield Live(f"{settings.scheme}://{settings.host}:{listener.getsockname()[1]}", app, loops[0])
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()

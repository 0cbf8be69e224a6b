"""``fleet up``: the API and an agent on this machine, kept running until Ctrl-C.

Each is a child process. One that ends by itself is started again, after a pause that doubles up to
:data:`LONGEST_PAUSE`; an API that refuses to start says why and ends the whole. Without its agent the API goes on.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from fleet_api.access import certificates, listening
from fleet_api.cli import exit_codes
from fleet_api.kit import home
from fleet_api.kit.clock import SystemClock
from fleet_api.kit.listen import bind
from fleet_api.kit.process import keep_log, spawn, stop
from fleet_api.kit.rotating import RotatingLog
from fleet_api.migrate import upgrade
from fleet_api.settings import Settings

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
STEADY_SECONDS = 3.0
READY_SECONDS = 60.0
GRACE_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0  # a grandchild may hold the pipe open
OK = "ok"
FINAL = {exit_codes.CONFLICT, exit_codes.UNUSABLE}
AGENT_FINAL = {2, 3}  # a setting is wrong, or no credential is accepted


class Child:
    """A process that is started again when it ends."""

    def __init__(
        self, name: str, argv: list[str], env: dict[str, str], log: Path, say: Callable[[str], None], final: set[int] = FINAL
    ) -> None:
        self.name = name
        self._argv = argv
        self._env = env
        self._log = log
        self._say = say
        self._final = final
        self.process: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> int:
        """Run until cancelled, or until it ends with a code that another start would not change; return that code."""
        pause = FIRST_PAUSE
        while True:
            started = time.monotonic()
            self.process = await spawn(self._argv, self._env)
            log = RotatingLog(self._log)
            logging = asyncio.create_task(keep_log(self.process, log))
            try:
                code = await self.process.wait()
            except asyncio.CancelledError:
                await stop(self.process, GRACE_SECONDS)
                raise
            finally:
                await asyncio.wait({logging}, timeout=LAST_WORDS_SECONDS)
                logging.cancel()
                log.close()
            if code in self._final:
                self._say(f"{self.name} ended ({_ending(code)}) and another start would end the same way. Its log: {self._log}")
                return code
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._say(f"{self.name} ended ({_ending(code)}); starting it again in {pause:.1f} s. Its log: {self._log}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


async def up(settings: Settings, say: Callable[[str], None], on_ready: Callable[[str, str], None]) -> int:
    """Run the API and the local agent until SIGINT or SIGTERM; return the exit code.

    Raises:
        HomeBusy: another ``fleet up`` uses this data folder.
        PortBusy: the port is taken.
        FleetError: the data folder or the database cannot be used.
    """
    with home.claim(settings.home, "up.lock"):
        port = _free_port(settings)
        upgrade(settings.database)
        served = listening.certificate(settings, SystemClock())
        return await _run(settings, listening.local_url(settings, port, served), port, say, on_ready)


async def _run(settings: Settings, url: str, port: int, say: Callable[[str], None], on_ready: Callable[[str, str], None]) -> int:
    logs = settings.logs
    api_env = {"FLEET_HOME": str(settings.home), "FLEET_HOST": settings.host, "FLEET_PORT": str(port)}
    agent_env = {
        "FLEET_AGENT_URL": url,
        "FLEET_AGENT_STATE_DIR": str(settings.agent_home),
        "FLEET_AGENT_TOKEN_FILE": str(settings.agent_home / "token"),
        "FLEET_AGENT_DRAIN_SECONDS": "0",  # the control plane that its picture would go to ends at the same moment
    }
    authority = settings.tls_folder / certificates.CA_FILE
    trusted: ssl.SSLContext | bool = True
    if url.startswith("https") and authority.exists():
        agent_env["FLEET_AGENT_CA_FILE"] = str(authority)
        trusted = ssl.create_default_context(cafile=str(authority))
    logs.mkdir(exist_ok=True, mode=0o700)
    api = Child("The API", [sys.executable, "-m", "fleet_api", "serve"], api_env, logs / "api.log", say)
    agent = Child("The agent", [sys.executable, "-m", "gpu_inference.agent", "run"], agent_env, logs / "agent.log", say, AGENT_FINAL)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    serving = asyncio.create_task(api.keep_running())
    working = asyncio.create_task(_work(settings, agent))
    ready = asyncio.create_task(_tell_ready(url, listening.public_url(settings, port), trusted, say, on_ready, logs))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)  # without its agent the API goes on
        return exit_codes.OK if stopping.is_set() else serving.result()
    finally:
        for task in (serving, working, ready, stopped):
            task.cancel()
        await asyncio.gather(serving, working, ready, stopped, return_exceptions=True)


async def _work(settings: Settings, agent: Child) -> int:
    """Run the agent. What prepares it takes long to import (2 s on a slow machine), and the API starts meanwhile."""
    local_agent = await asyncio.to_thread(importlib.import_module, "fleet_api.local_agent")
    await local_agent.prepare(settings)
    return await agent.keep_running()


async def _tell_ready(
    url: str, public: str, trusted: ssl.SSLContext | bool, say: Callable[[str], None], on_ready: Callable[[str, str], None], logs: Path
) -> None:
    """Wait until the API answers and its agent can make pictures, then say so."""
    deadline = time.monotonic() + READY_SECONDS
    async with httpx.AsyncClient(base_url=url, timeout=5, trust_env=False, verify=trusted) as client:
        while time.monotonic() < deadline:
            try:
                answer = await client.get("/health")
                if answer.status_code == 200 and answer.json()["checks"]["generation"] == OK:
                    on_ready(url, public)
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    say(f"Not ready after {READY_SECONDS:.0f} s: no node can make a picture yet. The logs are in {logs}; it goes on trying.")


def _free_port(settings: Settings) -> int:
    with bind(settings.host, settings.port) as listener:
        return int(listener.getsockname()[1])


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

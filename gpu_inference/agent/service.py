"""The agent as a whole: what runs, in which order it starts and stops."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import time
from typing import List, Optional, Tuple

from gpu_inference.agent import authority, identity, logs
from gpu_inference.agent.beats import BeatLoop
from gpu_inference.agent.builder import Builder
from gpu_inference.agent.cache import ModelCache
from gpu_inference.agent.client import ApiClient, Backoff, Rejected
from gpu_inference.agent.desk import Desk
from gpu_inference.agent.draining import Stopping, drain
from gpu_inference.agent.engine_outcome import EngineFailure
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.engines_shared import EngineShare
from gpu_inference.agent.fetching import Fetcher
from gpu_inference.agent.files import lock_dir
from gpu_inference.agent.http.front import Front
from gpu_inference.agent.leases import LeaseLoop
from gpu_inference.agent.memory_watch import MemoryWatch
from gpu_inference.agent.runner import Runner
from gpu_inference.agent.settings import REAL, Settings
from gpu_inference.agent.share import Share
from gpu_inference.agent.telemetry import Telemetry
from gpu_inference.agent.turn import Turn
from gpu_inference.agent.uploads import Outbox, deliver
from gpu_inference.building.plan_folder import PlanFolder

FAREWELL_SECONDS = 1.0
_STABLE_SECONDS = 30.0


class House:
    """What lasts as long as the process, whoever it serves as."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = ApiClient(settings.url, settings.ca_file)
        self.engine = EngineProcess(settings)
        self.engine.absent = not engine_is_installed(settings)
        self.stopping = Stopping(settings.drain_seconds)
        self.turn = Turn()
        self.telemetry = Telemetry(settings.state_dir)
        self.desk = Desk(self.engine, self.turn, settings.http_wait)
        self.front = Front(self.engine, self.turn, self.desk, self.telemetry, settings.http_key)


def engine_is_installed(settings: Settings) -> bool:
    """Whether this node has the packages of a real engine; a simulated one needs none of them."""
    return settings.engine != REAL or importlib.util.find_spec("numpy") is not None


async def keep_engine(engine: EngineProcess, turn: Turn) -> None:
    """Keeps a child alive, with growing pauses where it keeps ending; where no engine is installed there is none.

    It is told to load its default model, unless what it would compute in is wanted for something else.
    """
    if engine.absent:
        logs.info("No engine is installed on this node: it takes no jobs.")
        await asyncio.Event().wait()
    backoff = Backoff(0.2, 30.0)
    while True:
        begun = time.monotonic()
        try:
            await engine.ensure_started()
        except EngineFailure as failure:
            logs.error("The engine does not start.", reason=str(failure))
        else:
            if not turn.reserved.is_set():
                engine.preload()
            await engine.ended.wait()
            logs.warning("The engine has ended.")
            if time.monotonic() - begun > _STABLE_SECONDS:
                backoff.reset()
        await asyncio.sleep(backoff.next())


def _fetcher(
    settings: Settings, client: ApiClient, engine: EngineProcess, runner: Runner, who: identity.Identity
) -> Tuple[Optional[Fetcher], Optional[Share]]:
    """What fetches stored models; a simulated engine, or a cache without room, needs none."""
    if settings.engine != REAL or not settings.cache_limit:
        return None, None
    share = None
    try:
        cache = ModelCache(settings.cache_dir, settings.cache_limit)
    except OSError as error:
        logs.error("The cache of models cannot be used.", folder=str(settings.cache_dir), reason=str(error))
        return None, None
    if settings.share is not None:
        try:
            share = Share(cache, settings.share)
        except OSError as error:
            logs.error("Neighbours cannot be given models.", address="{}:{}".format(*settings.share), reason=str(error))
    runner.cache = cache
    return Fetcher(client, engine, cache, share, who.incarnation, runner.in_use, runner.changed.set), share


async def serve(house: House, who: identity.Identity) -> None:
    """Works as ``who`` until it is cancelled or has drained. Raises :class:`Rejected` where the credential is no longer accepted."""
    settings, client, engine, stopping = house.settings, house.client, house.engine, house.stopping
    outbox = Outbox(settings.state_dir)
    runner = Runner(client, engine, outbox, who.incarnation, house.turn)
    fetcher, share = _fetcher(settings, client, engine, runner, who)
    shared = EngineShare(client, PlanFolder(settings.plans_dir, settings.plans_limit))
    builder = Builder(settings, engine, house.turn, shared, runner.changed)
    house.front.credential, house.desk.told, house.desk.left = who.credential, runner.changed.set, runner.left
    logs.info("The agent is up.", node_id=who.node_id, url=settings.url)
    loops = [asyncio.ensure_future(keep_engine(engine, house.turn))]
    late: List[asyncio.Future[bool]] = []
    try:
        # What an earlier run finished goes first: the next beat ends its leases.
        late = [asyncio.ensure_future(deliver(client, pending)) for pending in outbox.waiting()]
        await asyncio.gather(*late)
        beats = BeatLoop(client, engine, runner, house.telemetry, who.incarnation, fetcher, builder)
        loops.append(asyncio.ensure_future(beats.run()))
        loops.append(asyncio.ensure_future(MemoryWatch(engine, house.turn, settings.memory_limit).run()))
        leases = LeaseLoop(client, engine, runner, who.incarnation, fetcher is not None)
        loops += [asyncio.ensure_future(leases.run()), asyncio.ensure_future(drain(stopping, runner, leases))]
        stopping.can = True
        if fetcher is not None:
            loops.append(asyncio.ensure_future(fetcher.run()))
        await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        for task in loops:
            if task.done():
                task.result()
    finally:
        stopping.can = False
        for task in loops:
            task.cancel()
        for delivery in late:
            delivery.cancel()
        await asyncio.gather(*loops, *late, return_exceptions=True)
        if share is not None:
            share.close()
        await builder.close()
        await runner.shutdown(FAREWELL_SECONDS)
        await engine.kill()


async def _work(house: House) -> None:
    rejected: Optional[identity.Identity] = None
    await authority.trust(house.client, house.settings)
    while not house.stopping.begun.is_set():
        who = await identity.obtain(house.client, house.settings.state_dir, house.settings.read_token(), rejected)
        try:
            await serve(house, who)
        except Rejected as error:
            logs.warning("The credential is no longer accepted.", reason=str(error))
            rejected = who


def _already_stopping() -> None:
    """A second signal must not cut the clean-up short."""


async def run(settings: Settings) -> None:
    """Runs the agent until it is stopped: by SIGTERM it drains, by SIGINT or a second signal it ends at once.

    Raises what :func:`gpu_inference.agent.identity.obtain` and :func:`gpu_inference.agent.files.lock_dir` raise.
    """
    loop = asyncio.get_running_loop()
    with lock_dir(settings.state_dir):
        house = House(settings)
        if settings.http is not None and not house.engine.absent:
            house.front.open(settings.http)
        work = asyncio.ensure_future(_work(house))

        def stop(number: int) -> None:
            if number == signal.SIGTERM and house.stopping.begin():
                return
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(each, _already_stopping)
            work.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            await work
        except asyncio.CancelledError:
            logs.info("The agent stops.")
        finally:
            house.front.close()
            house.telemetry.close()
            await house.client.close()

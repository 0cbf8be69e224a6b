"""Which engine speaks for the swarm. Managers are asked beside each other, so that a dead one costs a moment and not a timeout.

A read is answered from memory, with its age, where no manager can answer. A write goes to a manager that has just answered, once, and
never twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from fleet_api.adapters.docker.errors import EngineAway, NoQuorum, NotAManager
from fleet_api.adapters.docker.types import Api, Engine, Engines
from fleet_api.errors import Conflict, FleetError, NotFound, Timeout, Unavailable
from fleet_api.kit.clock import Clock
from fleet_api.kit.db import Database
from fleet_api.services.swarm import repository
from fleet_api.services.swarm.errors import NoSwarm
from fleet_api.services.swarm.models import LOCAL, Swarm

log = structlog.get_logger()
T = TypeVar("T")

READ_SECONDS = 3.5
WRITE_SECONDS = 4.7
NEXT_SECONDS = 0.5
"""How long one manager is waited for before the next is asked too."""

UNDECIDED = (
    "The swarm's managers did not decide this in time; see whether enough of them are there (GET /api/swarm/nodes), and look if it was "
    "done before you try again."
)
REMEMBERED = 1_000  # answers, those that were read last
TRUSTED_SECONDS = 2.0
"""A manager that answered so short a time ago is not asked again before a write."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was read. ``age`` in seconds is 0 for what was read now, and ``why`` says why it was not."""

    value: T
    age: float = 0.0
    why: str = ""


class Managers:
    """One instance a process, used on the event loop only. ``setting``, ``local`` or a node, is where one is looked for at first."""

    def __init__(self, db: Database, clock: Clock, engines: Engines, setting: str) -> None:
        self.engines = engines
        self.setting = setting
        self._db = db
        self._clock = clock
        self._swarm: Swarm | None = None
        self._first: str | None = None
        self._trusted = -TRUSTED_SECONDS
        self._seen: OrderedDict[str, tuple[Any, float]] = OrderedDict()

    async def load(self) -> None:
        """Read what is remembered."""
        self._swarm = await self._db.read(repository.get)

    @property
    def swarm(self) -> Swarm | None:
        """The swarm, as it is remembered."""
        return self._swarm

    def names(self) -> list[str]:
        """Return who is remembered to manage the swarm, the one that answered last first; none without a swarm."""
        return self._candidates() if self._swarm is not None else []

    async def remember(self, swarm_id: str, managers: list[str]) -> None:
        """Note the swarm and its managers."""
        if self._swarm is None or self._swarm.id != swarm_id or self._swarm.managers != managers:
            found = Swarm(id=swarm_id, managers=managers, known_at=self._clock.now())
            await self._db.write(lambda db: repository.keep(db, found))
            self._swarm = found

    async def forget(self) -> None:
        """Note that there is no swarm any more."""
        await self._db.write(lambda db: repository.keep(db, None))
        self._swarm, self._first, self._seen = None, None, OrderedDict()

    async def read(self, what: str, fn: Callable[[Api], T]) -> Answer[T]:
        """Return what ``fn`` reads from a manager, or what it last did. ``what`` names it.

        Raises NoSwarm, and Unavailable where nothing was ever read; refusals of the swarm (404, 400) as they are.
        """
        try:
            value = await self._ask(fn, READ_SECONDS)
        except (Unavailable, Timeout) as error:
            if what not in self._seen:
                raise
            kept, at = self._seen[what]
            return Answer(kept, max(0.001, self._clock.monotonic() - at), error.detail)
        self._seen[what] = (value, self._clock.monotonic())
        self._seen.move_to_end(what)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return Answer(value)

    async def write(self, fn: Callable[[Api], T]) -> T:
        """Return what ``fn`` does on a manager of a swarm that can decide. Raises NoSwarm, Unavailable within 5 s, and refusals."""
        started = self._clock.monotonic()
        engine = await self.engine()
        left = max(0.5, WRITE_SECONDS - (self._clock.monotonic() - started))
        try:
            done = await engine.call(fn, left)
        except (Unavailable, Timeout) as error:
            self._trusted = -TRUSTED_SECONDS
            if isinstance(error, EngineAway):  # a leader that has lost the others takes a while to know it
                raise EngineAway(UNDECIDED) from error
            raise
        self._trusted = self._clock.monotonic()
        return done

    async def engine(self) -> Engine:
        """Return the engine of a manager that can decide. Raises as :meth:`write`."""
        if self._first is None or self._clock.monotonic() - self._trusted > TRUSTED_SECONDS:
            await self._ask(lambda client: client.nodes(filters={"role": "manager"}), READ_SECONDS)
        return await self._engine(self._first or LOCAL)

    async def exists(self) -> bool:
        """Say whether there is a swarm, also one that cannot decide now."""
        if self._swarm is not None:
            return True
        try:
            await self.engine()
        except (NoSwarm, Unavailable, Timeout):
            return False
        return True

    async def _engine(self, name: str) -> Engine:
        return await self.engines.of(None if name == LOCAL else name)

    def _candidates(self) -> list[str]:
        known = self._swarm.managers if self._swarm is not None else []
        names = [*([self._first] if self._first else []), *known] or [self.setting]
        return list(dict.fromkeys(names))

    async def _ask(self, fn: Callable[[Api], T], seconds: float) -> T:
        """Ask the managers, each a little after the one before; return the first answer."""
        names = self._candidates()
        tasks: dict[asyncio.Task[T], str] = {}
        errors: dict[str, FleetError] = {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        left = list(names)
        try:
            while left or tasks:
                if left:
                    name = left.pop(0)
                    tasks[loop.create_task(self._try(name, fn, max(0.1, deadline - loop.time())))] = name
                done, _ = await asyncio.wait(
                    tasks, timeout=NEXT_SECONDS if left else max(0.1, deadline - loop.time()), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    name = tasks.pop(task)
                    error = task.exception()
                    if error is None:
                        await self._answered(name)
                        return task.result()
                    if not isinstance(error, Unavailable | Timeout | Conflict | NotFound) or _final(error):
                        if isinstance(error, FleetError):
                            self._first, self._trusted = name, self._clock.monotonic()
                        raise error
                    errors[name] = error
                if not done and not left:
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        raise await self._nobody(names, errors)

    async def _try(self, name: str, fn: Callable[[Api], T], seconds: float) -> T:
        try:
            engine = await self._engine(name)
        except NotFound as error:  # the node was removed from the fleet
            raise NotAManager(error.detail) from error
        except Conflict as error:  # it has no address or credential any more
            raise EngineAway(error.detail) from error
        try:
            return await engine.call(fn, seconds)
        except Conflict as error:
            if type(error).__module__.startswith("fleet_api.adapters.ssh"):  # its credential, its host key
                raise EngineAway(error.detail) from error
            raise

    async def _answered(self, name: str) -> None:
        self._first, self._trusted = name, self._clock.monotonic()
        if self._swarm is None:
            info = await (await self._engine(name)).call(lambda client: client.info(), READ_SECONDS)
            await self.remember(str(info["Swarm"]["Cluster"]["ID"]), [name])

    async def _nobody(self, names: list[str], errors: dict[str, FleetError]) -> FleetError:
        """Return what to raise where no manager answers."""
        self._trusted = -TRUSTED_SECONDS
        if self._swarm is None:
            return NoSwarm()
        if len(errors) == len(names) and all(isinstance(each, NotAManager) for each in errors.values()):
            log.warning("swarm_gone", swarm=self._swarm.id)
            await self.forget()
            return NoSwarm()
        if any(isinstance(each, NoQuorum) for each in errors.values()):
            return next(each for each in errors.values() if isinstance(each, NoQuorum))
        reason = next((f" The first: {each.detail}" for each in errors.values() if not isinstance(each, NotAManager)), "")
        return EngineAway(f"None of the swarm's {len(names)} managers that are known ({', '.join(names)}) answers.{reason}")


def _final(error: BaseException) -> bool:
    """Say whether another manager would say the same: the swarm has decided."""
    return isinstance(error, FleetError) and not isinstance(error, Unavailable | Timeout)

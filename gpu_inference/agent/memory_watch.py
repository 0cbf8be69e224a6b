"""Watches the engine's memory: ends an engine before the kernel would end something, and has an idle one let go where memory is short."""

from __future__ import annotations

import asyncio
import time
from typing import Callable, NamedTuple, Optional

from gpu_inference import free_memory, memory
from gpu_inference.agent import logs
from gpu_inference.agent.engine_outcome import EngineFailure
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.turn import Turn
from gpu_inference.engine import wire

GPU = "cuda"
LOOK_SECONDS = 0.2
SHORT_SECONDS = 2.0
"""So long memory must be short before an engine lets go."""

SHED_SECONDS = 5.0
"""So long an engine at work has to let go what is parked, which it does between two steps."""


class _Short(NamedTuple):
    """A memory that is short: the machine's, or a GPU's own."""

    room: memory.Room
    own: bool


class MemoryWatch:
    """Runs until it is cancelled. ``limit`` is what the engine may have, in MiB; None is what the machine has.

    ``gpu_room`` is asked where the loaded model is on a GPU; None is one without memory of its own.
    """

    def __init__(
        self,
        engine: EngineProcess,
        turn: Turn,
        limit: Optional[float],
        room: Callable[[], memory.Room] = free_memory.room,
        gpu_room: Callable[[], Optional[memory.Room]] = free_memory.gpu_room,
    ) -> None:
        self._engine = engine
        self._turn = turn
        self._limit = limit
        self._room = room
        self._gpu_room = gpu_room
        self._short_since: Optional[float] = None
        self._relieved = False
        self._shed_at: Optional[float] = None

    async def run(self) -> None:
        """Looks, five times a second."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)

    def look(self, now: float) -> None:
        """Looks once; ``now`` is of a clock that never runs backwards."""
        pid = self._engine.pid
        if pid is None:
            return
        room = self._room()
        why = memory.why_too_much(free_memory.held(pid), room, self._limit)
        if why is None:
            self._shed_at = None
        elif not self._sheds(now, why):
            self._engine.condemn(EngineFailure(why, "out_of_memory"))
            return
        short = self._short(room)
        if short is None:
            self._short_since, self._relieved = None, False
        elif self._short_since is None:
            self._short_since = now
        elif now - self._short_since >= SHORT_SECONDS:
            self._short_since = None
            self._let_go(short)

    def _sheds(self, now: float, why: str) -> bool:
        """Has an engine that took too much let its parked models go, which it does at its next step; returns whether that is waited for."""
        if self._shed_at is None and self._engine.parked_models:
            self._shed_at = now
            logs.warning("An engine that took too much lets go what is parked.", models=self._engine.parked_models, reason=why)
            self._engine.unload(wire.PARKED)
        return self._shed_at is not None and now - self._shed_at < SHED_SECONDS

    def _short(self, room: memory.Room) -> Optional[_Short]:
        """The memory that is short while the engine has something of it to let go, at work only parked models; None where none is such."""
        loaded = self._engine.loaded_model is not None and not self._turn.taken
        if not (loaded or self._engine.parked_models):
            return None
        if memory.is_short(room):
            return _Short(room, own=False)
        own = self._gpu_room() if loaded and self._engine.loaded_device == GPU else None
        return _Short(own, own=True) if own is not None and memory.is_short(own) else None

    def _let_go(self, short: _Short) -> None:
        """Of the machine's memory what is parked there, first and alone. Then spare models, and what the engine keeps on a GPU for speed,
        which may be all that is lacking, before the model in use. From a GPU's own memory they go to the machine's, where it has room.
        """
        engine = self._engine
        if engine.parked_models and not short.own:
            what, models = wire.PARKED, engine.parked_models
        elif engine.spare_models or (engine.loaded_device == GPU and not self._relieved):
            what, models, self._relieved = wire.SPARES, engine.spare_models, True
        else:
            what, models = wire.ALL, [str(engine.loaded_model)]
        logs.warning("Memory is short: what is loaded is let go.", what=what, models=models, free_mib=round(short.room.available))
        engine.unload(what, park=short.own)

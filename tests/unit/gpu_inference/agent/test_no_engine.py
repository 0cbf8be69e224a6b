from __future__ import annotations

import asyncio
import importlib.util
from typing import Any, cast

import pytest

from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.leases import capabilities
from gpu_inference.agent.service import keep_engine
from gpu_inference.protocol import Capabilities


class Engine:
    started = 0
    absent = False
    hello = None

    async def ensure_started(self) -> None:
        self.started += 1
        raise asyncio.CancelledError


async def kept(engine: Engine) -> None:
    with pytest.raises((asyncio.CancelledError, asyncio.TimeoutError)):
        await asyncio.wait_for(keep_engine(cast(EngineProcess, engine)), 0.1)


async def test_a_node_without_an_engines_packages_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: Any = None) -> Any:
        return None if name == "numpy" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    engine = Engine()
    assert capabilities(cast(EngineProcess, engine)) is None, "nothing is known yet"
    await kept(engine)
    assert engine.started == 0
    assert capabilities(cast(EngineProcess, engine)) == Capabilities(), "what an engine served before it was taken away is told of no more"


async def test_a_node_with_them_starts_one() -> None:
    engine = Engine()
    await kept(engine)
    assert engine.started == 1

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gpu_inference.agent import service
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.http.front import Front
from gpu_inference.agent.leases import capabilities
from gpu_inference.agent.service import House, engine_is_installed, keep_engine
from gpu_inference.agent.settings import Settings
from gpu_inference.agent.turn import Turn
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
        await asyncio.wait_for(keep_engine(cast(EngineProcess, engine), Turn()), 0.1)


def lacking_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    def find_spec(name: str, package: Any = None) -> Any:
        return None if name == "numpy" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


async def test_a_node_without_an_engines_packages_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking_numpy(monkeypatch)
    engine = Engine()
    assert capabilities(cast(EngineProcess, engine)) is None, "nothing is known yet"
    engine.absent = not engine_is_installed(Settings())
    await kept(engine)
    assert engine.started == 0
    assert capabilities(cast(EngineProcess, engine)) == Capabilities(), "what an engine served before it was taken away is told of no more"


async def test_it_opens_no_door_whose_port_an_agent_in_a_container_publishes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lacking_numpy(monkeypatch)
    opened = []
    monkeypatch.setattr(Front, "open", lambda _, address: opened.append(address))

    async def work(_: House) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(service, "_work", work)
    settings = Settings(state_dir=tmp_path, http=("127.0.0.1", 0))
    await service.run(settings)
    assert opened == []
    await service.run(replace(settings, engine="sim"))
    assert opened == [("127.0.0.1", 0)]


def test_a_simulated_one_needs_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking_numpy(monkeypatch)
    assert engine_is_installed(Settings(engine="sim"))


async def test_a_node_with_them_starts_one() -> None:
    engine = Engine()
    await kept(engine)
    assert engine.started == 1

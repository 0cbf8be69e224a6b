"""Logs within bounds."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from fleet_api.adapters.docker.fake import FakeEngine
from fleet_api.errors import TooMany
from fleet_api.services.running import logs
from fleet_api.services.running.logs import ServiceLogReader, newest


def test_the_newest_lines_stay() -> None:
    assert newest([b"one", b"two", b"three"], 8) == b"twothree"
    assert newest([b"0123456789"], 4) == b"6789"
    assert newest([], 4) == b""


async def test_so_many_are_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FOLLOWED", 2)

    async def raw(name: str) -> Any:
        return {"ID": name}, []

    async def engine() -> FakeEngine:
        return FakeEngine("agx0", object())

    services: Any = SimpleNamespace(raw=raw, swarm=SimpleNamespace(managers=SimpleNamespace(engine=engine)))
    reader = ServiceLogReader(services)
    async with AsyncExitStack() as open_ones:
        for _ in range(2):
            await open_ones.enter_async_context(await reader.follow("web", 5))
        with pytest.raises(TooMany, match="2 logs of services are followed already"):
            await reader.follow("web", 5)
    await reader.follow("web", 5)

"""Waits within a time: what they give, and that a cancel ends them at whatever moment it comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gpu_inference.agent.beats import BeatLoop
from gpu_inference.agent.within import within
from gpu_inference.protocol import BeatReply

MOMENTS = range(8)
"""Turns of the loop between an event and the cancel; the wait ends some turns after its event."""


async def gone(task: asyncio.Task[Any], turns: int) -> bool:
    """Cancels ``task`` after so many turns; whether it has ended for that."""
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=1.0)
    task.cancel()
    return bool(done)


async def test_it_gives_what_the_work_gives() -> None:
    assert await within(asyncio.sleep(0, "there"), 5) == "there"


async def test_what_the_work_raises_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await within(fails(), 5)


@pytest.mark.parametrize("seconds", [0.0, 0.01])
async def test_work_that_takes_too_long_is_cancelled(seconds: float) -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(asyncio.TimeoutError):
        await within(endless(), seconds)
    await asyncio.sleep(0)
    assert ended.is_set() or not seconds, "work that had no time at all may never have begun"


async def test_what_is_there_already_needs_no_time() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    queue.put_nowait(1)
    assert await within(queue.get(), 0.0) == 1


async def test_nothing_is_lost_of_a_queue_by_waiting_in_vain() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in range(50):
        with pytest.raises(asyncio.TimeoutError):
            await within(queue.get(), 0.0)
        queue.put_nowait(number)
        assert await within(queue.get(), 1.0) == number


@pytest.mark.parametrize("turns", MOMENTS)
async def test_a_cancel_at_the_moment_of_the_event_is_not_forgotten(turns: int) -> None:
    changed = asyncio.Event()

    async def for_ever() -> None:
        while True:
            changed.clear()
            await within(changed.wait(), 5)

    task = asyncio.ensure_future(for_ever())
    await asyncio.sleep(0.01)
    changed.set()
    assert await gone(task, turns)


@pytest.mark.parametrize("turns", MOMENTS)
async def test_beats_end_though_a_job_ends_in_that_moment(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that has drained ends its beats just after its last job has ended."""
    beat = asyncio.Event()

    class Client:
        async def beat(self, _message: object) -> BeatReply:
            beat.set()
            return BeatReply()

    def nothing(*_: object) -> dict[str, Any]:
        return {}

    changed = asyncio.Event()
    turn = SimpleNamespace(draining=True, local=None)
    runner: Any = SimpleNamespace(changed=changed, turn=turn, attempts=[], loading=None, progress=list, stop=nothing)
    engine: Any = SimpleNamespace(alive=True, loaded_model=None, spare_models=[], parked_models=[])
    client: Any = Client()
    telemetry: Any = SimpleNamespace(facts=nothing, metrics=nothing)
    monkeypatch.setattr("gpu_inference.agent.beats.QUICKEST", 0.0)
    task = asyncio.ensure_future(BeatLoop(client, engine, runner, telemetry, "i").run())
    await beat.wait()
    await asyncio.sleep(0.01)
    changed.set()
    assert await gone(task, turns)

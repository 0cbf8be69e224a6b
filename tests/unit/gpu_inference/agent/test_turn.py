"""Whose turn it is at the engine."""

from __future__ import annotations

import asyncio

from gpu_inference.agent.turn import Turn


async def test_one_at_a_time_in_the_order_of_coming() -> None:
    turn, order = Turn(), []

    async def work(name: int) -> None:
        assert await turn.take(asyncio.Event())
        order.append(name)
        await asyncio.sleep(0)
        turn.leave()

    assert await turn.take(asyncio.Event())
    waiting = [asyncio.ensure_future(work(name)) for name in range(5)]
    await asyncio.sleep(0)
    assert not order
    turn.leave()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2, 3, 4]


async def test_who_gives_up_or_waits_too_long_leaves_no_trace() -> None:
    turn, up = Turn(), asyncio.Event()
    assert await turn.take(asyncio.Event())
    given_up = asyncio.ensure_future(turn.take(up))
    late = asyncio.ensure_future(turn.take(asyncio.Event(), 0.01))
    cancelled = asyncio.ensure_future(turn.take(asyncio.Event()))
    await asyncio.sleep(0)
    up.set()
    cancelled.cancel()
    await asyncio.wait([given_up, late, cancelled])
    assert (await given_up, await late, cancelled.cancelled()) == (False, False, True)
    turn.leave()
    assert await turn.take(asyncio.Event(), 0.1), "it is free again"
    both = asyncio.ensure_future(turn.take(up, 0.1))
    turn.leave()
    assert not await both, "given up at the very moment when it came"
    assert await turn.take(asyncio.Event(), 0.1)


def test_reservations_are_counted() -> None:
    async def run() -> None:
        turn = Turn()
        turn.reserve()
        turn.reserve()
        turn.release()
        assert turn.reserved.is_set()
        assert not turn.unreserved.is_set()
        turn.release()
        assert not turn.reserved.is_set()
        turn.drain()
        turn.drain()
        assert turn.reserved.is_set()

    asyncio.run(run())

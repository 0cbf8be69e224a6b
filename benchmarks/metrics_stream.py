"""``/ws/metrics`` to 100 clients with 300 nodes that beat once a second: processor time and memory of the control plane.

Measured without clients first, so that what the stream costs can be told from what the beats cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from benchmarks.fleet import NODES, beat_for_ever, enrol_many
from benchmarks.servers import Server, control_plane

CLIENTS = 100
SECONDS = 10.0


async def measure() -> dict[str, Any]:
    """Return processor shares (1.0 is one core), memory in MiB, and messages a second."""
    with tempfile.TemporaryDirectory() as folder, control_plane(Path(folder)) as fleet:
        agents = await enrol_many(Path(folder), fleet.port)
        beating = asyncio.create_task(beat_for_ever(fleet.port, agents))
        await asyncio.sleep(2)
        alone = await _share(fleet)
        received = [0] * CLIENTS
        watching = [asyncio.create_task(_watch(fleet.port, received, index)) for index in range(CLIENTS)]
        await asyncio.sleep(2)
        before = sum(received)
        watched = await _share(fleet)
        messages = (sum(received) - before) / SECONDS
        memory = fleet.memory()
        for task in (beating, *watching):
            task.cancel()
        await asyncio.gather(beating, *watching, return_exceptions=True)
    return {
        "nodes": NODES, "clients": CLIENTS, "processor_beats": alone, "processor_beats_and_clients": watched, "memory_mib": memory / 2**20,
        "messages_per_second": messages,
    }  # fmt: skip


async def _share(fleet: Server) -> float:
    before = fleet.processor_seconds()
    await asyncio.sleep(SECONDS)
    return (fleet.processor_seconds() - before) / SECONDS


async def _watch(port: int, received: list[int], index: int) -> None:
    with contextlib.suppress(OSError):
        async with connect(f"ws://127.0.0.1:{port}/ws/metrics", proxy=None) as socket:
            async for _ in socket:
                received[index] += 1


def report() -> dict[str, Any]:
    """Measure and print."""
    found = asyncio.run(measure())
    print(f"{NODES} nodes, a beat a second      {found['processor_beats'] * 100:5.1f} % of a core")
    share, memory, messages = found["processor_beats_and_clients"], found["memory_mib"], found["messages_per_second"]
    print(f"and {CLIENTS} clients of /ws/metrics {share * 100:5.1f} % of a core, {memory:.0f} MiB, {messages:.0f} messages/s")
    return found


if __name__ == "__main__":
    report()

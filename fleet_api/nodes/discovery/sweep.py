"""One scan: who answers, and on which ports.

Two phases, as most addresses of a subnet are nobody's: SSH's port on all of them first, then the other ports on those that answered (open
or refused) or that the kernel knows as neighbours. ``thorough`` calls every port of every address, twice where it is silent.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleet_api.adapters.scan import Answer, Neighbour, Prober

SSH_PORT = 22
CONNECT_SECONDS, THOROUGH_SECONDS = 0.5, 1.0
MOST_IN_FLIGHT = 2_000
FILES_LEFT = 256
"""How many files the rest of the process may open meanwhile."""

NAME_SECONDS = 0.4


@dataclass(slots=True)
class Found:
    """One machine that answered, or that the kernel has just heard."""

    address: str
    ports: set[int] = field(default_factory=set)
    answered: bool = False
    banner: str | None = None
    mac: str | None = None
    name: str | None = None


def in_flight() -> int:
    """Return how many connections may be tried at once, by this process's limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_IN_FLIGHT
    return max(16, min(MOST_IN_FLIGHT, soft - max(FILES_LEFT, len(os.listdir("/proc/self/fd")))))


async def sweep(
    prober: Prober, addresses: Sequence[str], ports: Sequence[int], thorough: bool, told: Callable[[int, int], None] = lambda *_: None
) -> list[Found]:
    """Return the machines that are there. ``told`` hears of the progress: addresses looked at, machines found."""
    machines = {address: Found(address) for address in addresses}
    timeout = THOROUGH_SECONDS if thorough else CONNECT_SECONDS
    looked = 0

    async def look(address: str, port: int) -> None:
        nonlocal looked
        machine = machines[address]
        for _ in range(2 if thorough else 1):
            probed = await prober.probe(address, port, timeout, banner=port == SSH_PORT)
            if probed.answer != Answer.SILENT:
                machine.answered = True
                break
        if probed.answer == Answer.OPEN:
            machine.ports.add(port)
            machine.banner = machine.banner or probed.banner
        if port == SSH_PORT:
            looked += 1
            told(looked, sum(each.answered for each in machines.values()) if looked % 64 == 0 or looked == len(machines) else -1)

    first = ports if thorough else [port for port in ports if port == SSH_PORT] or ports[:1]
    await _all(look, ((address, port) for port in first for address in addresses))
    neighbours = await prober.neighbours()
    there = [machine for machine in machines.values() if machine.answered or machine.address in neighbours]
    names = {machine.address: asyncio.ensure_future(_name(prober, machine.address)) for machine in there}
    await _all(look, ((machine.address, port) for port in ports if port not in first for machine in there))
    found = [machine for machine in there if machine.answered or neighbours[machine.address].fresh]
    await _describe(found, neighbours, names)
    told(len(addresses), len(found))
    return found


async def _describe(found: list[Found], neighbours: Mapping[str, Neighbour], names: Mapping[str, asyncio.Future[str | None]]) -> None:
    if names:
        await asyncio.wait(names.values(), timeout=NAME_SECONDS)
    for machine in found:
        neighbour = neighbours.get(machine.address)
        machine.mac = neighbour.mac if neighbour else None
        name = names[machine.address]
        machine.name = name.result() if name.done() and not name.cancelled() and name.exception() is None else None
    for name in names.values():
        name.cancel()


async def _name(prober: Prober, address: str) -> str | None:
    return None if address.startswith("127.") else await prober.name_of(address)


async def _all(look: Callable[[str, int], object], pairs: Iterable[tuple[str, int]]) -> None:
    """Look at every pair, so many at once."""
    waiting = iter(list(pairs))

    async def work() -> None:
        for address, port in waiting:
            await look(address, port)  # type: ignore[misc]

    await asyncio.gather(*(work() for _ in range(in_flight())))

"""A network that a test makes up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fleet_api.adapters.scan import Answer, Neighbour, Probed


@dataclass
class Machine:
    """``filtered`` drops what is sent to these ports; every other port that is not open refuses."""

    open: set[int] = field(default_factory=set)
    filtered: set[int] = field(default_factory=set)
    banner: str | None = None
    name: str | None = None
    mac: str | None = None
    silent: bool = False


class FakeNetwork:
    def __init__(self, machines: dict[str, Machine], delay: float = 0.0) -> None:
        self.machines = machines
        self.delay = delay
        self.probes: list[tuple[str, int]] = []
        self.stale: dict[str, Neighbour] = {}
        self.at_once = self.most_at_once = 0

    async def probe(self, address: str, port: int, timeout: float, banner: bool = False) -> Probed:
        self.probes.append((address, port))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.delay)
        self.at_once -= 1
        machine = self.machines.get(address)
        if machine is None or machine.silent or port in machine.filtered:
            return Probed(Answer.SILENT)
        if port in machine.open:
            return Probed(Answer.OPEN, machine.banner if banner else None)
        return Probed(Answer.REFUSED)

    async def neighbours(self) -> dict[str, Neighbour]:
        return self.stale | {ip: Neighbour(each.mac, True) for ip, each in self.machines.items() if each.mac}

    async def name_of(self, address: str) -> str | None:
        machine = self.machines.get(address)
        return machine.name if machine else None

    def close(self) -> None:
        pass

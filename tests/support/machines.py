"""Machines that answer over SSH as a test says, in place of the network: for what is done with the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fleet_api.adapters.ssh.types import Result, Target
from fleet_api.errors import FleetError
from fleet_api.nodes.plays import INSIDE, LOOK_INSIDE


@dataclass
class Machine:
    """What one machine says of itself."""

    hostname: str
    machine_id: str
    python: str = "3.11"
    l4t: str = ""
    systemd: str = "yes"
    error: FleetError | None = None
    sudo_error: FleetError | None = None
    ran: list[str] = field(default_factory=list)
    contained: bool = False
    """Whether the role's note of an agent in a container is there."""

    def says(self) -> str:
        return (
            f"hostname={self.hostname}\nmachine_id={self.machine_id}\nboot_id=b\narch=aarch64\npython={self.python}\n"
            f"systemd={self.systemd}\napt=/usr/bin/apt-get\nl4t={self.l4t}\n"
        )


class FakeSsh:
    """Machines by address."""

    def __init__(self, **machines: Machine) -> None:
        self.machines: dict[str, Machine] = dict(machines)

    async def run(self, target: Target, command: str, *, timeout: float = 60.0, stdin: bytes | None = None, become: bool = False) -> Result:
        machine = self.machines[target.host]
        if machine.error is not None:
            raise machine.error
        if become and machine.sudo_error is not None:
            raise machine.sudo_error
        machine.ran.append(command)
        if LOOK_INSIDE in command and machine.contained:
            return Result(f"{INSIDE}\n", "", 0)
        return Result(machine.says() if "machine_id" in command else "", "", 0)

    @asynccontextmanager
    async def lines(self, target: Target, command: str, *, become: bool = False) -> AsyncIterator[AsyncIterator[bytes]]:
        async def nothing() -> AsyncIterator[bytes]:
            return
            yield b""

        yield nothing()

    def forget(self, address: str, port: int) -> None:
        pass

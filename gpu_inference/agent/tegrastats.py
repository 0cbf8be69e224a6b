"""What a line of NVIDIA's ``tegrastats`` tells. It is written for people, and each JetPack writes it otherwise.

JetPack 4 has no date, no units of power, and names rails ``GPU 1155/1155``; 5 has a date, ``-256C`` for a rail that is off, and no
frequency without root; 6 has small letters for temperatures; 7 has lists of frequencies, two temperatures and three powers; on Thor the
GPU has no load. So nothing is taken by its place: each figure is looked for by its own form, and what is not there is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Optional

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB(?: \(lfb (\d+)x(\d+)([kM])B\))?")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_LOAD = re.compile(r"\bGR3D_FREQ (\d+)%")
_CLOCK = re.compile(r"\bGR3D_FREQ (?:\d+%)?@\[?(\d+)")
_CORES = re.compile(r"\bCPU \[([^\]]*)\]")
_HEAT = re.compile(r"(?<!\S)([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C")
_POWER = re.compile(r"(?<!\S)([A-Z][A-Za-z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?:/\d+(?:mW)?)?(?!\S)")
_OFF = -200.0  # a rail that is off is at -256 degrees
_INPUTS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails through which the whole board is fed; where there is one, the others are parts of it."""


@dataclass(frozen=True)
class Reading:
    """One line. Memory in MiB, load in percent, clock in MHz, temperatures in degrees Celsius by sensor, power in W.

    ``free_block_mib`` is the size of the largest free blocks, ``free_blocks`` how many there are of that size.
    """

    ram_used_mib: float
    ram_total_mib: float
    free_blocks: Optional[int]
    free_block_mib: Optional[float]
    swap_used_mib: Optional[float]
    gpu_load: Optional[float]
    gpu_clock_mhz: Optional[float]
    cpu_load: Optional[float]
    temperatures: Dict[str, float]
    power_watts: Optional[float]

    @property
    def temperature(self) -> Optional[float]:
        """Of the hottest junction (``tj``) where it is told, else of the hottest sensor; the supply's own sensor does not count."""
        if "tj" in self.temperatures:
            return self.temperatures["tj"]
        chips = [value for name, value in self.temperatures.items() if not name.upper().startswith("PMIC")]
        return max(chips) if chips else None

    @property
    def free_contiguous_mib(self) -> Optional[float]:
        """Memory that is free in blocks of the largest size."""
        return None if self.free_blocks is None or self.free_block_mib is None else self.free_blocks * self.free_block_mib


def parse(line: str) -> Optional[Reading]:
    """Return what a line tells, or None for one that is no line of tegrastats."""
    ram = _RAM.search(line)
    if ram is None:
        return None
    swap, load, clock = _SWAP.search(line), _LOAD.search(line), _CLOCK.search(line)
    block = None if ram[4] is None else float(ram[4]) / (1024.0 if ram[5] == "k" else 1.0)
    heat = {name: float(value) for name, value in _HEAT.findall(line)}
    return Reading(
        ram_used_mib=float(ram[1]),
        ram_total_mib=float(ram[2]),
        free_blocks=None if ram[3] is None else int(ram[3]),
        free_block_mib=block,
        swap_used_mib=float(swap[1]) if swap else None,
        gpu_load=min(100.0, float(load[1])) if load else None,
        gpu_clock_mhz=float(clock[1]) if clock and clock[1] != "0" else None,
        cpu_load=_cores(line),
        temperatures={name: value for name, value in heat.items() if value > _OFF},
        power_watts=_power(line),
    )


def _cores(line: str) -> Optional[float]:
    """The mean of the cores that are on."""
    found = _CORES.search(line)
    if found is None:
        return None
    loads = [float(part.split("%")[0]) for part in found[1].split(",") if re.match(r"\d+%", part.strip())]
    return sum(loads) / len(loads) if loads else None


def _power(line: str) -> Optional[float]:
    """The power now, not its average, which comes after it."""
    rails = {name: float(now) for name, now, _ in _POWER.findall(line)}
    if not rails:
        return None
    fed = next((rails[name] for name in _INPUTS if name in rails), None)
    return (sum(rails.values()) if fed is None else fed) / 1000.0

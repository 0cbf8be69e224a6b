"""Figures and facts of the node, by psutil and :mod:`gpu`. What a machine does not have is left at its default, never made up."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, Optional

import psutil

from gpu_inference import __version__
from gpu_inference.agent.gpu import GpuFigures, find_gpu
from gpu_inference.protocol import Metrics

MIB = 1024.0 * 1024.0
_PREFERRED_SENSORS = ("coretemp", "k10temp", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")


def machine_id() -> str:
    """The machine's own id, or an empty text."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            return Path(path).read_text(encoding="ascii").strip()[:128]
        except (OSError, ValueError):
            continue
    return ""


def temperature() -> Optional[float]:
    """Degrees Celsius of the processor, else of the hottest sensor, else None."""
    try:
        sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    except (OSError, RuntimeError):
        return None
    for name in _PREFERRED_SENSORS:
        if sensors.get(name):
            return float(max(reading.current for reading in sensors[name]))
    readings = [reading.current for group in sensors.values() for reading in group]
    return float(max(readings)) if readings else None


def power_mode(tool: str = "nvpmodel") -> Optional[str]:
    """The name of a Jetson's power mode, such as ``MAXN``, by ``nvpmodel -q``; None on other machines."""
    found = shutil.which(tool, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        return None
    try:
        said = subprocess.run([found, "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = said.decode("utf-8", "replace").splitlines()
    return next((line.partition(":")[2].strip()[:64] for line in lines if line.startswith("NV Power Mode:")), None)


class Telemetry:
    """Reads the figures. The first processor figure covers the time since this was made."""

    def __init__(self, disk: Path) -> None:
        self._disk = str(disk)
        self._gpu = find_gpu()
        self._last: Optional[Metrics] = None
        psutil.cpu_percent(None)

    def recent(self) -> Metrics:
        """The figures that were read last, for others than the beats, whose processor load is that since the last reading."""
        return self._last or self.metrics()

    def metrics(self) -> Metrics:
        """The node's figures now."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(self._disk)
        gpu = self._gpu.figures() or GpuFigures()
        self._last = Metrics(
            cpu=psutil.cpu_percent(None),
            memory=memory.percent,
            memory_total_mib=round(memory.total / MIB, 1),
            disk=disk.percent,
            disk_free_mib=round(disk.free / MIB, 1),
            gpu=gpu.load or 0.0,
            gpu_memory=round(gpu.memory_used_mib or 0.0, 1),
            gpu_memory_total_mib=round(gpu.memory_total_mib or 0.0, 1),
            temperature=temperature() if gpu.temperature is None else gpu.temperature,
            gpu_clock_mhz=gpu.clock_mhz,
            power_watts=gpu.power_watts,
            free_contiguous_mib=gpu.free_contiguous_mib,
            throttled=gpu.throttled,
        )
        return self._last

    def close(self) -> None:
        """Ends what was started to read figures."""
        self._gpu.close()

    def facts(self) -> Dict[str, Any]:
        """What does not change while the node runs."""
        return {
            "hostname": platform.node(),
            "os": platform.system(),
            "os_release": platform.release(),
            "arch": platform.machine(),
            "python": platform.python_version(),
            "cpu_count": os.cpu_count() or 1,
            "memory_total_mib": round(psutil.virtual_memory().total / MIB, 1),
            "disk_total_mib": round(psutil.disk_usage(self._disk).total / MIB, 1),
            "machine_id": machine_id(),
            "boot_time": int(psutil.boot_time()),
            "agent_version": __version__,
            "power_mode": power_mode(),
        }

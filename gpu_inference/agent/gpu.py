"""The figures of a node's GPU: from ``tegrastats`` on a Jetson, from NVML on a machine with NVIDIA's driver, else none.

Neither has been read on hardware yet; ``docs/hardware.md`` says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from gpu_inference.agent.tegrastats import parse
from gpu_inference.gpus import handle

INTERVAL_MS = 1000
AGAIN_SECONDS = 30.0
"""A tegrastats that ended is started again after this long."""

STALE_SECONDS = 10.0
MIB = 1024.0 * 1024.0
_BY_HEAT = 0x20 | 0x40
"""NVML's reasons for a lower clock: software's and hardware's thermal slowdown."""


COOLING = Path("/sys/class/thermal")
_ALERT = "throttle-alert"


@dataclass(frozen=True)
class GpuFigures:
    """Load in percent, memory in MiB, clock in MHz, power in W; None where it is not told."""

    load: Optional[float] = None
    memory_used_mib: Optional[float] = None
    memory_total_mib: Optional[float] = None
    free_contiguous_mib: Optional[float] = None
    clock_mhz: Optional[float] = None
    power_watts: Optional[float] = None
    temperature: Optional[float] = None
    throttled: bool = False


def is_throttled(cooling: Path = COOLING) -> bool:
    """Whether a Jetson's kernel lowers a clock because of heat: it has a cooling device for that, such as ``gpu-throttle-alert``."""
    for kind in cooling.glob("cooling_device*/type"):
        try:
            if (
                kind.read_text(encoding="ascii", errors="replace").strip().endswith(_ALERT)
                and int((kind.parent / "cur_state").read_text()) > 0
            ):
                return True
        except (OSError, ValueError):  # a driver that does not tell, or a device that has gone
            continue
    return False


class TegraStats:
    """A running ``tegrastats``, whose last line is kept by a thread."""

    def __init__(self, tool: str, cooling: Path = COOLING) -> None:
        self._tool, self._cooling = tool, cooling
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._line = ""
        self._heard = self._started = float("-inf")

    def figures(self) -> Optional[GpuFigures]:
        """What the last line told, if it is not old. Memory is shared with the processor: the GPU has none of its own."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        if time.monotonic() - self._heard > STALE_SECONDS:
            return None
        found = parse(self._line)
        if found is None:
            return None
        return GpuFigures(
            load=found.gpu_load,
            free_contiguous_mib=found.free_contiguous_mib,
            clock_mhz=found.gpu_clock_mhz,
            power_watts=found.power_watts,
            temperature=found.temperature,
            throttled=is_throttled(self._cooling),
        )

    def close(self) -> None:
        """Ends it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        if time.monotonic() - self._started < AGAIN_SECONDS:
            return
        self._started = time.monotonic()
        try:
            self._process = subprocess.Popen(
                [self._tool, "--interval", str(INTERVAL_MS)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            return
        threading.Thread(target=self._read, args=(self._process,), name="tegrastats", daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            return
        with process.stdout as lines:
            for line in lines:
                self._line, self._heard = line[:4096].decode("utf-8", "replace"), time.monotonic()


class Nvml:
    """The GPU that is used, as NVML tells of it. ``library`` is nvidia-ml-py's module ``pynvml``."""

    def __init__(self, library: Any) -> None:
        """Raises what NVML raises where there is no driver or no GPU."""
        self._nvml = library
        library.nvmlInit()
        self._device = handle(library)

    def figures(self) -> Optional[GpuFigures]:
        """The figures now; what the device does not support is None."""
        nvml, device = self._nvml, self._device
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, device)
        use = self._ask(nvml.nvmlDeviceGetUtilizationRates, device)
        power = self._ask(nvml.nvmlDeviceGetPowerUsage, device)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device)
        return GpuFigures(
            load=None if use is None else float(use.gpu),
            memory_used_mib=None if memory is None else memory.used / MIB,
            memory_total_mib=None if memory is None else memory.total / MIB,
            clock_mhz=self._ask(nvml.nvmlDeviceGetClockInfo, device, nvml.NVML_CLOCK_GRAPHICS),
            power_watts=None if power is None else power / 1000.0,
            temperature=self._ask(nvml.nvmlDeviceGetTemperature, device, nvml.NVML_TEMPERATURE_GPU),
            throttled=bool((reasons or 0) & _BY_HEAT),
        )

    def close(self) -> None:
        """Lets NVML go."""
        self._ask(self._nvml.nvmlShutdown)

    def _ask(self, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


class NoGpu:
    """A machine without figures of a GPU."""

    def figures(self) -> Optional[GpuFigures]:
        """None."""
        return None

    def close(self) -> None:
        """Does nothing."""


def find_gpu() -> Any:
    """The source of figures on this machine: :class:`TegraStats`, :class:`Nvml` or :class:`NoGpu`."""
    tool = shutil.which("tegrastats", path=os.environ.get("PATH", "") + os.pathsep + "/usr/bin")
    if tool is not None:
        return TegraStats(tool)
    try:
        import pynvml

        return Nvml(pynvml)
    except Exception:  # not installed, no driver, no GPU: pynvml has errors of many kinds, and each means that there is none
        return NoGpu()

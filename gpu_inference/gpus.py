"""Which of a machine's GPUs is used: the first by the bus, or the one that ``CUDA_VISIBLE_DEVICES`` names first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PCI = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def cards(devices: Path = PCI) -> int:
    """How many cards of NVIDIA's that display or compute the bus has, with a driver or without."""
    found = 0
    for folder in devices.glob("*"):
        try:
            found += (folder / "vendor").read_text().strip() == _NVIDIA and (folder / "class").read_text().startswith(_DISPLAY)
        except OSError:
            continue
    return found


def order_as_nvml() -> None:
    """Has CUDA count the GPUs as NVML does, by the bus; by itself it begins with the fastest. To be called before CUDA is used."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def handle(nvml: Any) -> Any:
    """The GPU that CUDA has as its device 0, of NVML's module ``pynvml``, which was initialised. Raises what that raises without a GPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if named.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(named)
    if named.startswith("GPU-"):  # CUDA takes the beginning of one, and NVML whole ones alone
        for number in range(nvml.nvmlDeviceGetCount()):
            found = nvml.nvmlDeviceGetHandleByIndex(number)
            if _text(nvml.nvmlDeviceGetUUID(found)).startswith(named):
                return found
    return nvml.nvmlDeviceGetHandleByIndex(int(named) if named.isdigit() else 0)


def _text(said: Any) -> str:
    return said.decode() if isinstance(said, bytes) else str(said)

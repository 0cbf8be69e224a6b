"""Which of a machine's GPUs is used: the first by the bus, or the one that ``CUDA_VISIBLE_DEVICES`` names first."""

from __future__ import annotations

import os
from typing import Any


def order_as_nvml() -> None:
    """Has CUDA count the GPUs as NVML does, by the bus; by itself it begins with the fastest. To be called before CUDA is used."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def handle(nvml: Any) -> Any:
    """The GPU that CUDA has as its device 0, of NVML's module ``pynvml``, which was initialised. Raises what that raises without a GPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    if named.startswith(("GPU-", "MIG-")):
        return nvml.nvmlDeviceGetHandleByUUID(named)
    return nvml.nvmlDeviceGetHandleByIndex(int(named) if named.isdigit() else 0)

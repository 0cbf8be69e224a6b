"""NVML's figures, from a stand-in that has no function which the real bindings lack."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from gpu_inference import gpus
from gpu_inference.agent import gpu
from gpu_inference.agent.gpu import NoGpu, Nvml, find_gpu


class Card:
    """What an H100 might say; ``lacking`` names what it does not support."""

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_GRAPHICS = pynvml.NVML_CLOCK_GRAPHICS
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, lacking: str = "", reasons: int = 0) -> None:
        self._lacking = lacking
        self._says = {
            "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 * 2**30, total=80 * 2**30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=20), "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetClockInfo": 1980, "nvmlDeviceGetTemperature": 66, "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        assert callable(getattr(pynvml, name)), f"the real bindings have no {name}"

        def call(*_: Any) -> Any:
            if name == self._lacking:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return self._says[name]

        return call


def test_the_figures() -> None:
    found = Nvml(Card()).figures()
    assert found is not None
    assert (found.load, found.memory_used_mib, found.memory_total_mib) == (97, 3072, 81920)
    assert (found.clock_mhz, found.power_watts, found.temperature, found.throttled) == (1980, 350.5, 66, False)


@pytest.mark.parametrize(("reasons", "throttled"), [(0, False), (0x1, False), (0x4, False), (0x20, True), (0x40 | 0x4, True)])
def test_a_clock_that_is_lowered_by_heat_and_not_by_power(reasons: int, throttled: bool) -> None:
    found = Nvml(Card(reasons=reasons)).figures()
    assert found is not None
    assert found.throttled is throttled


def test_what_a_card_does_not_support_is_none() -> None:
    card = Nvml(Card(lacking="nvmlDeviceGetPowerUsage"))
    found = card.figures()
    assert found is not None
    assert (found.power_watts, found.load) == (None, 97)
    card.close()


def test_a_machine_without_a_driver_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu.shutil, "which", lambda *_, **__: None)
    found = find_gpu()
    assert isinstance(found, NoGpu)
    assert found.figures() is None
    found.close()


@pytest.mark.parametrize(
    ("visible", "expected"), [("", 0), ("2,0", 2), ("GPU-2", 2), ("GPU-21f0", 2), ("GPU-9", 0), ("MIG-7", "MIG-7"), ("none", 0)]
)
def test_the_gpu_that_is_watched_is_the_one_that_computes(monkeypatch: pytest.MonkeyPatch, visible: str, expected: object) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    library = SimpleNamespace(
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUUID=lambda number: [b"GPU-01f0", "GPU-11f0", "GPU-21f0"][number],
    )
    assert all(callable(getattr(pynvml, name)) for name in vars(library))
    assert gpus.handle(library) == expected


def test_cuda_counts_as_nvml_does_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    gpus.order_as_nvml()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    gpus.order_as_nvml()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_inference.agent.telemetry import Telemetry, temperature

Reading = namedtuple("Reading", "label current high critical")


def test_figures_are_this_machines(tmp_path: Path) -> None:
    telemetry = Telemetry(tmp_path)
    sum(range(2_000_000))
    metrics, facts = telemetry.metrics(), telemetry.facts()
    assert 0 < metrics.cpu <= 100
    assert 0 < metrics.memory < 100
    assert metrics.memory_total_mib == pytest.approx(psutil.virtual_memory().total / 2**20, rel=0.01)
    assert 0 <= metrics.disk <= 100
    assert metrics.disk_free_mib > 0
    assert (metrics.gpu, metrics.gpu_memory, metrics.gpu_memory_total_mib) == (0, 0, 0)
    assert facts["hostname"]
    assert facts["cpu_count"] == psutil.cpu_count()
    assert facts["arch"]


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({}, None),
        ({"coretemp": [Reading("", 41.0, None, None), Reading("", 44.5, None, None)], "nvme": [Reading("", 70.0, None, None)]}, 44.5),
        ({"nvme": [Reading("", 33.0, None, None)]}, 33.0),
        ({"coretemp": []}, None),
    ],
)
def test_the_processors_temperature_goes_first(monkeypatch: pytest.MonkeyPatch, sensors: Any, expected: Any) -> None:
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert temperature() == expected


def test_sensors_that_fail_are_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("no sensor")

    monkeypatch.setattr(psutil, "sensors_temperatures", fail, raising=False)
    assert temperature() is None

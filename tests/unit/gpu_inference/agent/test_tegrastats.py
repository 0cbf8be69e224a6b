"""The lines that tegrastats writes under JetPack 4, 5, 6 and 7, on Orin and on Thor."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_api.lab.captured import RELEASES
from gpu_inference.agent.gpu import TegraStats
from gpu_inference.agent.tegrastats import parse

JETPACK_4 = (
    "RAM 408/15823MB (lfb 3702x4MB) SWAP 0/7911MB (cached 0MB) CPU [5%@2265,0%@2265,off,2%@2265] EMC_FREQ 0%@2133 GR3D_FREQ "
    "0%@1377 APE 150 MTS fg 0% bg 0% AO@26.5C GPU@28C Tboard@28C PMIC@100C AUX@26.5C CPU@27.5C thermal@27.1C GPU 1155/1155 "
    "CPU 385/385 SOC 1155/1155"
)
JETPACK_5 = (
    "01-03-2023 16:07:54 RAM 3179/31010MB (lfb 6105x4MB) SWAP 0/15505MB (cached 0MB) CPU [0%@1190,0%@1190,off,off] EMC_FREQ "
    "0%@2133 GR3D_FREQ 7%@0 GR3D2_FREQ 0%@0 NVJPG1 729 VIC_FREQ 115 APE 233 CV0@-256C CPU@41.437C SOC2@38.5C GPU@-256C "
    "tj@41.656C VDD_GPU_SOC 2390mW/2390mW VDD_CPU_CV 796mW/796mW VIN_SYS_5V0 3522mW/3522mW"
)
JETPACK_6 = (
    "08-12-2025 10:00:01 RAM 3051/7620MB (lfb 4x256kB) SWAP 0/3810MB (cached 0MB) CPU [12%@1510,8%@1510] GR3D_FREQ 10%@1300 "
    "cpu@55.093C soc2@53.75C gpu@56.562C tj@56.562C VDD_IN 7256mW/7256mW VDD_CPU_GPU_CV 1711mW/1711mW VDD_SOC 2000mW/2000mW"
)
JETPACK_7 = (
    "06-01-2026 09:28:48 RAM 5000/62000MB (lfb 10x4MB) CPU [1%@729] GR3D_FREQ 12%@[1300,1300] NVDEC0 off cpu@52.968C/52.968C "
    "tj@53.1C/53.1C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 1000mW/1000mW/1000mW"
)
THOR = (
    "RAM 9000/125000MB (lfb 20x4MB) CPU [3%@2601] GR3D_FREQ @[1000,1000,1000] cpu@40C/40C gpu@41.5C/42C VDD_GPU "
    "3000mW/3000mW/3000mW VDD_CPU_SOC_MSS 4000mW/4000mW/4000mW VIN 21000mW/21000mW/21000mW"
)


@pytest.mark.parametrize(
    ("line", "load", "clock", "temperature", "power", "free", "cpu"),
    [
        (JETPACK_4, 0, 1377, 28, 2.695, 3702 * 4, 7 / 3),
        (JETPACK_5, 7, None, 41.656, 6.708, 6105 * 4, 0),
        (JETPACK_6, 10, 1300, 56.562, 7.256, 1, 10),
        (JETPACK_7, 12, 1300, 53.1, 6.139, 40, 1),
        (THOR, None, 1000, 41.5, 21, 80, 3),
    ],
    ids=["jetpack4", "jetpack5", "jetpack6", "jetpack7", "thor"],
)
def test_each_form_is_read(line: str, load: float, clock: float, temperature: float, power: float, free: float, cpu: float) -> None:
    found = parse(line)
    assert found is not None
    assert (found.gpu_load, found.gpu_clock_mhz, found.temperature) == (load, clock, temperature)
    assert found.power_watts == pytest.approx(power)
    assert found.free_contiguous_mib == free
    assert found.cpu_load == pytest.approx(cpu)
    assert "CV0" not in found.temperatures, "a rail that is off has no temperature"


def test_memory_of_each() -> None:
    both = [(found.ram_used_mib, found.ram_total_mib) for found in map(parse, (JETPACK_4, JETPACK_5, JETPACK_6, JETPACK_7, THOR)) if found]
    assert both == [(408, 15823), (3179, 31010), (3051, 7620), (5000, 62000), (9000, 125000)]


@pytest.mark.parametrize("name", RELEASES)
def test_each_release_that_the_lab_has_is_read(name: str) -> None:
    found = parse(RELEASES[name].tegrastats)
    assert found is not None
    assert found.ram_total_mib > 0
    assert found.temperature is not None
    assert 20 < found.temperature < 60
    assert found.power_watts is not None
    assert found.free_contiguous_mib


@given(st.text())
def test_other_lines_are_none_and_nothing_breaks_it(text: str) -> None:
    assert parse(text) is None or "RAM" in text
    parse(JETPACK_6[: len(text)] + text + JETPACK_6[len(text) :])


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({"cpu-throttle-alert": "0", "gpu-throttle-alert": "0", "pwm-fan": "3"}, False),
        ({"cpu-throttle-alert": "0", "gpu-throttle-alert": "1"}, True),
        ({"gpu-throttle-alert": None, "cv-throttle-alert": "what", "soc0-throttle-alert": "2"}, True),
        ({"hot-surface-alert": "1"}, False),
        ({}, False),
    ],
)
def test_heat_that_lowers_a_clock_is_told(tmp_path: Path, devices: dict[str, str | None], expected: bool) -> None:
    for number, (kind, state) in enumerate(devices.items()):
        device = tmp_path / "thermal" / f"cooling_device{number}"
        device.mkdir(parents=True)
        (device / "type").write_text(kind + "\n")
        if state is not None:
            (device / "cur_state").write_text(state + "\n")
    tool = tmp_path / "tegrastats"
    tool.write_text(f"#!/bin/sh\necho '{JETPACK_6}'; exec sleep 60\n")
    tool.chmod(0o755)
    running = TegraStats(str(tool), tmp_path / "thermal")
    deadline = time.monotonic() + 10
    while (found := running.figures()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.close()
    assert found.throttled is expected


def test_a_running_one_is_read_and_one_that_ends_is_no_figure(tmp_path: Path) -> None:
    tool = tmp_path / "tegrastats"
    tool.write_text(f"#!/bin/sh\n[ \"$1 $2\" = '--interval 1000' ] || exit 1\nwhile :; do echo '{JETPACK_6}'; sleep 0.1; done\n")
    tool.chmod(0o755)
    running = TegraStats(str(tool))
    deadline = time.monotonic() + 10
    while (found := running.figures()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (found.load, found.clock_mhz, found.temperature, found.power_watts) == (10, 1300, 56.562, 7.256)
    assert found.memory_total_mib is None, "it is the processor's"
    running.close()
    missing = TegraStats(str(tmp_path / "nothing"))
    assert missing.figures() is None
    missing.close()

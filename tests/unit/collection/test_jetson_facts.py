from __future__ import annotations

import pytest
from ansible_collections.fleet.commander.plugins.module_utils import jetson

from fleet_api.lab.captured import RELEASES


@pytest.mark.parametrize(
    ("line", "l4t"),
    [
        ("# R32 (release), REVISION: 6.1, GCID: 27863751, BOARD: t186ref, EABI: aarch64, DATE: Mon Jul 26 19:36:31 UTC 2021", "32.6.1"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023", "35.4.1"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025", "36.4.3"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64", "38.2.0"),
        ("# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, DATE: Mon Jun  1 09:28:48 PM UTC 2026", "39.2.0"),
        ("", None),
        ("PRETTY_NAME=Debian", None),
    ],
)
def test_l4t_is_read_from_its_file(line: str, l4t: str | None) -> None:
    assert jetson.l4t_of(line + "\n# KERNEL_VARIANT: oot\n") == l4t


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("32.6.1", "4.6"), ("32.7.1", "4.6.1"), ("32.7.6", "4.6.6"), ("35.1.0", "5.0.2"), ("35.3.1", "5.1.1"), ("35.4.1", "5.1.2"),
        ("35.6.3", "5.1.5"), ("35.6.4", "5.1.6"), ("36.3.0", "6.0"), ("36.4.2", "6.1"), ("36.4.3", "6.2"), ("36.4.7", "6.2.1"),
        ("36.5.0", "6.2.2"), ("38.2.1", "7.0"), ("38.4.0", "7.1"), ("39.2.0", "7.2"), ("39.2.1", "7.2.1"), ("32.1.0", None),
        ("40.1.0", None),
    ],
)  # fmt: skip
def test_each_l4t_has_its_jetpack(l4t: str, jetpack: str | None) -> None:
    assert jetson.jetpack_of(l4t) == jetpack


def test_the_device_tree_ends_in_nul_and_names_the_chip() -> None:
    compatible = jetson.nul_separated(b"nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0nvidia,tegra234\0")
    assert jetson.soc_of(compatible) == ("Orin", "8.7")
    assert jetson.nul_separated(b"NVIDIA Jetson AGX Thor Developer Kit\0") == ["NVIDIA Jetson AGX Thor Developer Kit"]
    assert jetson.soc_of(["raspberrypi,4-model-b"]) == (None, None)
    assert jetson.soc_of([]) == (None, None)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", {"name": "MAXN", "id": 0}),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W\n2\n", {"name": "MODE_15W", "id": 2}),
        ("NV Power Mode: MAXN_SUPER\n2", {"name": "MAXN_SUPER", "id": 2}),
        ("", None),
    ],
)
def test_the_power_mode_is_name_and_number(text: str, mode: dict[str, object] | None) -> None:
    assert jetson.power_mode_of(text) == mode


def test_power_modes_are_listed() -> None:
    assert jetson.power_modes_of("POWER_MODEL: ID=0 NAME=MAXN\nPOWER_MODEL: ID=1 NAME=15W\n") == {"MAXN": 0, "15W": 1}


@pytest.mark.parametrize(
    ("release", "memory", "load", "temperatures", "power"),
    [
        ("r32.7.1", 15823, 0, {"gpu": 28.0, "cpu": 28.5}, {"GPU": 1155, "SYS5V": 1526}),
        ("r35.4.1", 30588, 7, {"tj": 41.656, "cpu": 41.437}, {"VDD_GPU_SOC": 2390, "VIN_SYS_5V0": 3522}),
        ("r36.4.3", 15656, 10, {"gpu": 56.562, "tj": 56.562}, {"VDD_IN": 7256, "VDD_SOC": 2201}),
        ("r38.2.0", 125772, None, {"tj": 40.1}, {"VDD_GPU": 2395, "VIN": 24420}),
        ("r39.2.0", 62781, 12, {"cpu": 52.968}, {"VDD_GPU_SOC": 5139}),
    ],
)
def test_tegrastats_of_every_generation(
    release: str, memory: int, load: int | None, temperatures: dict[str, float], power: dict[str, int]
) -> None:
    found = jetson.tegrastats_of(RELEASES[release].tegrastats)
    assert found is not None
    assert found["ram_total_mib"] == memory
    assert found.get("gpu_percent") == load
    assert temperatures.items() <= found["temperatures"].items()
    assert power.items() <= found["power_mw"].items()
    assert all(value > -200 for value in found["temperatures"].values()), "a rail that is off has no temperature"
    assert not {"GR3D_FREQ", "EMC_FREQ", "APE", "RAM"} & found["power_mw"].keys()


def test_what_is_no_line_of_tegrastats_gives_nothing() -> None:
    assert jetson.tegrastats_of("tegrastats: command not found") is None


@pytest.mark.parametrize("release", RELEASES)
def test_clocks_as_captured_are_not_held(release: str) -> None:
    shown = RELEASES[release].clocks
    assert jetson.clocks_locked(shown) is False
    assert jetson.clocks_locked("cpu0: MinFreq=5 MaxFreq=5 CurrentFreq=5\nGPU MinFreq=7 MaxFreq=7 CurrentFreq=7\n") is True
    assert jetson.clocks_locked("Error: Run this script as a root user") is None


def test_versions_come_from_packages() -> None:
    versions = {"libnvinfer10": "10.3.0.30-1+cuda12.5", "libcudnn9-cuda-12": "9.3.0.75-1", "nvidia-jetpack": "6.2.1+b38"}
    assert jetson.tensorrt_of(versions) == "10.3.0.30"
    assert jetson.cudnn_of(versions) == "9.3.0.75"
    assert jetson.jetpack_package_of(versions) == "6.2.1"
    assert jetson.tensorrt_of({"libnvinfer8": "8.6.2.3-1+cuda12.2"}) == "8.6.2.3"
    assert jetson.jetpack_package_of({"nvidia-jetpack": "5.1.2-b104"}) == "5.1.2"
    assert jetson.tensorrt_of({}) is jetson.cudnn_of({}) is jetson.jetpack_package_of({}) is None

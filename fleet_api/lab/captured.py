"""What Jetsons say: one release of each generation, with a board it runs on. Lines follow captured ones; facts, not code."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Board:
    """The device tree's words."""

    model: str
    compatible: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """An L4T release: its file, the versions of its packages and its tools' output. ``core`` is the version of nvidia-l4t-core."""

    board: str
    core: str
    tegra_release: str
    power_modes: tuple[str, ...]
    tegrastats: str
    clocks: str
    cuda: str = ""
    packages: dict[str, str] = field(default_factory=dict)


BOARDS = {
    "xavier": Board("NVIDIA Jetson AGX Xavier Developer Kit", ("nvidia,p2972-0000", "nvidia,tegra194")),
    "agx-orin": Board("NVIDIA Jetson AGX Orin Developer Kit", ("nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234")),
    "orin-nx": Board(
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        ("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
    ),
    "thor": Board("NVIDIA Jetson AGX Thor Developer Kit", ("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264")),
}

OOT = "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\nTARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n"

CLOCKS_JP4 = """SOC family:tegra194  Machine:Jetson-AGX
Online CPUs: 0-7
cpu0:  Online=1 Governor=schedutil MinFreq=1190400 MaxFreq=2265600 CurrentFreq=1190400 IdleStates: C1=1 c6=1
GPU MinFreq=114750000 MaxFreq=1377000000 CurrentFreq=114750000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=0
NV Power Mode: MAXN
"""
CLOCKS_JP5 = """SOC family:tegra234  Machine:Jetson AGX Orin
Online CPUs: 0-11
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=816000000 CurrentFreq=306000000
Active GPU TPCs: 8
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=0
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=102
NV Power Mode: MODE_50W
"""
CLOCKS_JP7 = """SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-11, Offline CPUs:
cpu0:  Governor=schedutil MinFreq=729600 MaxFreq=2201600 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=1300000000 CurrentFreq=1300000000
NV Power Mode: MAXN
"""

RELEASES = {
    "r32.7.1": Release(
        board="xavier",
        core="32.7.1-20220219090432",
        tegra_release="# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t186ref, EABI: aarch64, DATE: Sat Feb 19 17:07:00 UTC 2022\n",
        power_modes=("MAXN", "MODE_10W", "MODE_15W"),
        tegrastats=(
            "RAM 408/15823MB (lfb 3702x4MB) SWAP 0/7911MB (cached 0MB) CPU [5%@2265,0%@2265,0%@2265,0%@2265,off,off,off,off] "
            "EMC_FREQ 0%@2133 GR3D_FREQ 0%@1377 APE 150 MTS fg 0% bg 0% AO@26.5C GPU@28C Tboard@28C Tdiode@29.25C AUX@26.5C CPU@28.5C "
            "thermal@27.35C PMIC@100C GPU 1155/1155 CPU 385/385 SOC 1155/1155 CV 0/0 VDDRQ 0/0 SYS5V 1526/1526\n"
        ),
        clocks=CLOCKS_JP4,
        cuda="10.2.460",
        packages={"nvidia-jetpack": "4.6.1-b110", "libcudnn8": "8.2.1.32-1+cuda10.2", "libnvinfer8": "8.2.1-1+cuda10.2"},
    ),
    "r35.4.1": Release(
        board="agx-orin",
        core="35.4.1-20230801124926",
        tegra_release="# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: Tue Aug  1 19:57:35 UTC 2023\n",
        power_modes=("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
        tegrastats=(
            "01-03-2023 16:07:54 RAM 5241/30588MB (lfb 5x4MB) SWAP 0/15294MB (cached 0MB) CPU [3%@1728,2%@1728,0%@1728,off] "
            "EMC_FREQ 0%@2133 GR3D_FREQ 7%@0 GR3D2_FREQ 0%@0 NVJPG1 729 VIC_FREQ 115 APE 233 CV0@-256C CPU@41.437C SOC2@38.281C "
            "SOC0@38.437C CV1@-256C GPU@-256C tj@41.656C SOC1@37.187C CV2@-256C VDD_GPU_SOC 2390mW/2390mW VDD_CPU_CV 796mW/796mW "
            "VIN_SYS_5V0 3522mW/3522mW\n"
        ),
        clocks=CLOCKS_JP5,
        cuda="11.4.19",
        packages={"nvidia-jetpack": "5.1.2-b104", "libcudnn8": "8.6.0.166-1+cuda11.4", "libnvinfer8": "8.5.2-1+cuda11.4"},
    ),
    "r36.4.3": Release(
        board="orin-nx",
        core="36.4.3-20250107174145",
        tegra_release=(
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n" + OOT
        ),
        power_modes=("MAXN", "10W", "15W", "25W", "MAXN_SUPER"),
        tegrastats=(
            "01-08-2025 10:21:07 RAM 3021/15656MB (lfb 12x4MB) SWAP 0/7828MB (cached 0MB) CPU [2%@1984,0%@1984,1%@1984,0%@1984] "
            "EMC_FREQ 1%@3199 GR3D_FREQ 10%@1300 NVDEC off NVJPG off VIC off OFA off APE 200 cpu@55.093C soc2@53.75C soc0@54.1C "
            "gpu@56.562C tj@56.562C soc1@54.2C VDD_IN 7256mW/7256mW VDD_CPU_GPU_CV 1711mW/1711mW VDD_SOC 2201mW/2201mW\n"
        ),
        clocks=CLOCKS_JP5.replace("Jetson AGX Orin", "NVIDIA Jetson Orin NX").replace("MODE_50W", "MAXN"),
        cuda="12.6.68",
        packages={"nvidia-jetpack": "6.2+b77", "libcudnn9-cuda-12": "9.3.0.75-1", "libnvinfer10": "10.3.0.30-1+cuda12.5"},
    ),
    "r38.2.0": Release(
        board="thor",
        core="38.2.0-20250821174705",
        tegra_release=(
            "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025\n" + OOT
        ),
        power_modes=("MAXN", "120W"),
        tegrastats=(
            "08-25-2025 11:02:41 RAM 4211/125772MB (lfb 120x4MB) SWAP 0/0MB (cached 0MB) CPU [1%@972,0%@972,0%@972,0%@972] "
            "GR3D_FREQ @[1000,1000,1000] cpu@38.4C tj@40.1C soc012@39.2C soc345@40.1C gpu@38.9C VDD_GPU 2395mW/2395mW "
            "VDD_CPU_SOC_MSS 7184mW/7184mW VIN 24420mW/24420mW\n"
        ),
        clocks=CLOCKS_JP7.replace("tegra234", "tegra264").replace("AGX Orin", "AGX Thor"),
        cuda="13.0.0",
        packages={"nvidia-jetpack": "7.0-b128", "libcudnn9-cuda-13": "9.12.0.46-1", "libnvinfer10": "10.13.3.9-1+cuda13.0"},
    ),
    "r39.2.0": Release(
        board="agx-orin",
        core="39.2.0-20260601022848",
        tegra_release=(
            "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 09:28:48 PM UTC 2026\n" + OOT
        ),
        power_modes=("MAXN", "MODE_15W", "MODE_30W", "MODE_50W"),
        tegrastats=(
            "06-03-2026 09:14:22 RAM 3911/62781MB (lfb 31x4MB) SWAP 0/31390MB (cached 0MB) CPU [2%@1728,0%@1728,0%@1728,off] "
            "EMC_FREQ 0%@3199 GR3D_FREQ 12%@[1300,1300] NVDEC0 off NVENC0 off VIC off APE 233 cpu@52.968C/52.968C tj@53.1C/53.1C "
            "gpu@50.2C/50.2C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 1284mW/1284mW/1284mW VIN_SYS_5V0 5040mW/5040mW/5040mW\n"
        ),
        clocks=CLOCKS_JP7,
        cuda="13.2.0",
        packages={"nvidia-jetpack": "7.2-b92", "libcudnn9-cuda-13": "9.20.0.46-1", "libnvinfer10": "10.16.2.10-1+cuda13.2"},
    ),
}

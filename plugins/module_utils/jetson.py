# Copyright: Fleet Commander contributors. Apache-2.0.
"""What a Jetson's own words mean. Pure functions: text in, facts out; a text that is none of a Jetson's gives nothing."""

from __future__ import annotations

import re
from typing import Any

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)(?:,\s*GCID:\s*(\d+))?(?:,\s*BOARD:\s*(\w+))?")

# First release of L4T with each JetPack, newest first.
JETPACKS = (
    ((39, 2, 1), "7.2.1"), ((39, 2, 0), "7.2"), ((38, 4, 0), "7.1"), ((38, 2, 0), "7.0"),
    ((36, 5, 2), "6.2.3"), ((36, 5, 0), "6.2.2"), ((36, 4, 4), "6.2.1"), ((36, 4, 3), "6.2"), ((36, 4, 0), "6.1"),
    ((36, 3, 0), "6.0"), ((36, 2, 0), "6.0 DP"),
    ((35, 6, 4), "5.1.6"), ((35, 6, 1), "5.1.5"), ((35, 6, 0), "5.1.4"), ((35, 5, 0), "5.1.3"), ((35, 4, 1), "5.1.2"),
    ((35, 3, 1), "5.1.1"), ((35, 2, 1), "5.1"), ((35, 1, 0), "5.0.2"), ((34, 1, 1), "5.0.1 DP"), ((34, 1, 0), "5.0 DP"),
    ((32, 7, 6), "4.6.6"), ((32, 7, 5), "4.6.5"), ((32, 7, 4), "4.6.4"), ((32, 7, 3), "4.6.3"), ((32, 7, 2), "4.6.2"),
    ((32, 7, 1), "4.6.1"), ((32, 6, 1), "4.6"),
)  # fmt: skip

SOCS = {
    "nvidia,tegra210": ("Tegra X1", "5.3"),
    "nvidia,tegra186": ("Tegra X2", "6.2"),
    "nvidia,tegra194": ("Xavier", "7.2"),
    "nvidia,tegra234": ("Orin", "8.7"),
    "nvidia,tegra264": ("Thor", "11.0"),
}


def l4t_of(release: str) -> str | None:
    """Return the L4T version, such as ``35.4.1``, that ``/etc/nv_tegra_release`` names, or None."""
    found = _RELEASE.search(release)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def jetpack_of(l4t: str) -> str | None:
    """Return the JetPack that came with an L4T version; None for one older than JetPack 4.6 or of an unknown generation."""
    numbers = _numbers(l4t)
    for first, jetpack in JETPACKS:
        if numbers[0] == first[0] and numbers >= first:
            return jetpack
    return None


def nul_separated(content: bytes) -> list[str]:
    """Return the texts of a device-tree property."""
    return [part.decode("utf-8", "replace") for part in content.split(b"\0") if part]


def soc_of(compatible: list[str]) -> tuple[str | None, str | None]:
    """Return the name of the chip and its CUDA compute capability, or two Nones."""
    for name in compatible:
        if name in SOCS:
            return SOCS[name]
    return (None, None)


def power_mode_of(text: str) -> dict[str, Any] | None:
    """Return ``{name, id}`` of what ``nvpmodel -q`` printed."""
    found = re.search(r"NV Power Mode:\s*(\S+)\s*\n\s*(\d+)", text)
    return {"name": found.group(1), "id": int(found.group(2))} if found else None


def power_modes_of(text: str) -> dict[str, int]:
    """Return id by name of what ``nvpmodel -p --verbose`` printed."""
    return {name: int(number) for number, name in re.findall(r"POWER_MODEL:\s*ID=(\d+)\s+NAME=(\S+)", text)}


def clocks_locked(text: str) -> bool | None:
    """Say whether the GPU's and every core's clock is held at its highest, by what ``jetson_clocks --show`` printed."""
    pairs = re.findall(r"(?:cpu\d+:|GPU).*?MinFreq=(\d+)\s+MaxFreq=(\d+)", text)
    return all(low == high for low, high in pairs) if pairs else None


def tegrastats_of(line: str) -> dict[str, Any] | None:
    """Return memory in MiB, GPU load in percent, temperatures in degrees Celsius and power in mW of one line of ``tegrastats``.

    What the line does not tell is left out: a rail that is off, a load that only root sees, a temperature of -256.
    """
    memory = re.search(r"RAM (\d+)/(\d+)MB", line)
    if memory is None:
        return None
    found: dict[str, Any] = {"ram_used_mib": int(memory.group(1)), "ram_total_mib": int(memory.group(2))}
    load = re.search(r"GR3D_FREQ (\d+)%", line)
    if load:
        found["gpu_percent"] = int(load.group(1))
    clock = re.search(r"GR3D_FREQ (?:\d+%)?@\[?(\d+)", line)
    if clock:
        found["gpu_mhz"] = int(clock.group(1))
    temperatures = {name.lower(): float(value) for name, value in re.findall(r"(?<![\w@])([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C", line)}
    found["temperatures"] = {name: value for name, value in temperatures.items() if value > -200}
    ends = [match.end() for match in re.finditer(r"@-?\d+(?:\.\d+)?C(?:/-?[\d.]+C)?", line)]
    after = line[ends[-1] :] if ends else ""
    found["power_mw"] = {name: int(now) for name, now in re.findall(r"(?<!\S)([A-Z]\w*) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?!\S)", after)}
    return found


def tensorrt_of(versions: dict[str, str]) -> str | None:
    """Return TensorRT's version, such as ``10.3.0.30``, given versions by package."""
    return _upstream(versions, ("libnvinfer10", "libnvinfer8", "libnvinfer7"))


def cudnn_of(versions: dict[str, str]) -> str | None:
    """Return cuDNN's version given versions by package."""
    return _upstream(versions, ("libcudnn9-cuda-13", "libcudnn9-cuda-12", "libcudnn9", "libcudnn8", "libcudnn7"))


def jetpack_package_of(versions: dict[str, str]) -> str | None:
    """Return the JetPack that the package ``nvidia-jetpack`` names, without its build number."""
    found = re.match(r"[\d.]+", versions.get("nvidia-jetpack", ""))
    return found.group(0) if found else None


def _upstream(versions: dict[str, str], packages: tuple[str, ...]) -> str | None:
    for name in packages:
        if versions.get(name):
            return versions[name].split("-")[0].split("+")[0]
    return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in version.split(".") if part.isdigit()]
    return tuple(([*numbers, 0, 0, 0])[:3])

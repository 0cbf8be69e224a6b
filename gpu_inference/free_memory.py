"""The memory of this machine, or of the control group that the process is in, where that has less."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Optional, Tuple

import psutil

from gpu_inference.gpus import handle
from gpu_inference.memory import MIB, Room, of_group

GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2.0**60


def room(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> Room:
    """What there is, and what could be had now."""
    memory = psutil.virtual_memory()
    total, available = memory.total / MIB, memory.available / MIB
    group = _group(groups, own)
    if group is not None:
        limit, free = group
        total, available = min(total, limit), min(available, free)
    return Room(total, available)


def room_of(on_gpu: bool) -> Room:
    """The memory that a model takes from: a GPU's own where there is one that has some, else the machine's."""
    return (gpu_room() if on_gpu else None) or room()


def gpu_room() -> Optional[Room]:
    """The memory of the GPU that is used, by NVML; None where there is none of its own, as on a Jetson."""
    try:
        import pynvml

        pynvml.nvmlInit()
        found = pynvml.nvmlDeviceGetMemoryInfo(handle(pynvml))
        return Room(found.total / MIB, found.free / MIB)
    except Exception:  # not installed, no driver, no GPU, not supported: pynvml has errors of many kinds, and each means that there is none
        return None


def _group(groups: Path, own: Path) -> Optional[Tuple[float, float]]:
    """Limit of the process's group and what is left of it; None where there is none."""
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        _, _, rest = line.partition(":")
        kinds, _, path = rest.partition(":")
        if kinds == "":
            found = _read(groups, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            found = _read(groups / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        if found is not None:
            return found
    return None


def _read(root: Path, path: str, limit_file: str, used_file: str, cached: str) -> Optional[Tuple[float, float]]:
    folder = root / path.lstrip("/")
    folder = folder if folder.is_dir() else root  # in a container its own group is mounted as the root of all
    try:
        limit = float((folder / limit_file).read_text())
        if limit >= _UNLIMITED:
            return None
        used = float((folder / used_file).read_text())
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
        return limit / MIB, of_group(limit, used, float(stat.get(cached, 0))) / MIB
    except (OSError, ValueError):  # 'max', or no such file
        return None


def held(pid: Optional[int] = None) -> float:
    """MiB that a process holds; 0 where it is gone."""
    try:
        return float(psutil.Process(pid).memory_info().rss) / MIB
    except psutil.Error:
        return 0.0


def give_back() -> None:
    """Has the C library give freed memory back to the system, which it otherwise keeps: of a model that was let go, all of it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

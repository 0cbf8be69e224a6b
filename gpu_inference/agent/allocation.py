"""How an engine's C library takes and returns memory: large tensors one by one, in huge pages.

A network whose weights stay in half precision on disk is widened piece by piece, each for one step of the network. glibc by itself keeps
pieces of up to 32 MiB on its heap, where what is still in use holds on to what is not: 530 to 680 MiB beside the weights, for an SDXL of
650 million weights. Taken one by one, as none is reused (``onnx_sessions.open_session``), it is 320 MiB. Faulting them in by pages of 4 KiB
made a picture of 4.1 s last 5.6; by huge pages it lasts 4.1 again, so without these nothing is set.
Settings: https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Tuple

THRESHOLD = 8 * 2**20
"""From how many bytes on a piece is a mapping of its own."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_FIRST_GLIBC = (2, 35)
"""The first with ``glibc.malloc.hugetlb``."""


def tunables() -> Dict[str, str]:
    """The environment that makes a child allocate so; empty where its C library or the kernel cannot."""
    if glibc() < _FIRST_GLIBC or not _huge_pages():
        return {}
    return {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={THRESHOLD}:glibc.malloc.hugetlb=1"}


def glibc() -> Tuple[int, ...]:
    """This process's version of glibc; (0,) with another C library."""
    try:
        _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return tuple(int(part) for part in version.split("."))
    except (OSError, ValueError):
        return (0,)


def _huge_pages() -> bool:
    try:
        return "[never]" not in HUGE_PAGES.read_text(encoding="ascii")
    except OSError:
        return False

"""A file mapped into memory as a whole."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Optional

_AT_ONCE = 64 * 2**20
"""Bytes between which other threads get their turn."""


def map_file(path: Path) -> Optional[mmap.mmap]:
    """The file's bytes, which stay there when it is replaced or removed; None of an empty one. Raises OSError."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return None
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_in(mapped: mmap.mmap) -> None:
    """Has the kernel read every page of it now.

    They are not held: where memory is short it may take them back, as the file has them too, and the next reading is slower.
    """
    if hasattr(mmap, "MADV_WILLNEED"):
        mapped.madvise(mmap.MADV_WILLNEED)
    for start in range(0, len(mapped), _AT_ONCE):
        mapped[start : start + _AT_ONCE : mmap.PAGESIZE]

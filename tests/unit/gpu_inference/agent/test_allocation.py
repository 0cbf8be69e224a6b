"""How an engine's C library is told to allocate."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_inference.agent import allocation

MIB = 2**20
# After a large piece was given back, glibc would by itself keep pieces of its size on the heap.
TAKES = f"""
import ctypes
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
c.mallinfo2.restype = Info
c.free(c.malloc({31 * MIB}))
before = c.mallinfo2().hblkhd
c.malloc({16 * MIB})
print(c.mallinfo2().hblkhd - before)
"""


def taken_as_mapping(environment: dict[str, str]) -> int:
    own = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    said = subprocess.run([sys.executable, "-c", TAKES], env={**own, **environment}, check=True, capture_output=True, text=True)
    assert said.stderr == ""
    return int(said.stdout)


@pytest.mark.skipif(not allocation.tunables(), reason="wants glibc 2.35 and huge pages")
def test_large_pieces_are_mappings_of_their_own() -> None:
    assert taken_as_mapping({}) == 0
    assert taken_as_mapping(allocation.tunables()) >= 16 * MIB


@pytest.mark.parametrize(
    ("version", "pages", "set_"),
    [
        ("glibc 2.36", "always [madvise] never", True),
        ("glibc 2.31", "always [madvise] never", False),
        ("glibc 2.36", "always madvise [never]", False),
        ("glibc 2.36", None, False),
        (None, "[always] madvise never", False),
        ("another", "[always] madvise never", False),
    ],
)
def test_nothing_is_set_where_it_would_cost_time(
    version: str | None, pages: str | None, set_: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: version)
    monkeypatch.setattr(allocation, "HUGE_PAGES", tmp_path / "enabled")
    if pages is not None:
        (tmp_path / "enabled").write_text(pages)
    assert bool(allocation.tunables()) is set_

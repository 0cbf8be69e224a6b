"""A control group of the kernel with so much memory, where this user may make one: what runs in it meets the real OOM killer."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup")


@dataclass
class MemoryGroup:
    folder: Path

    def command(self, *words: str) -> list[str]:
        """A command that runs in the group."""
        return ["sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *words]

    def used_mib(self) -> float:
        for name in ("memory.usage_in_bytes", "memory.current"):
            with contextlib.suppress(FileNotFoundError):
                return int((self.folder / name).read_text()) / 2**20
        raise AssertionError("the group does not tell")


@contextlib.contextmanager
def memory_group(mib: int) -> Iterator[MemoryGroup]:
    """Skips the test where no group can be made."""
    second = (ROOT / "cgroup.controllers").exists()
    folder = (ROOT if second else ROOT / "memory") / f"fleet-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(mib << 20))
        with contextlib.suppress(OSError):
            (folder / ("memory.swap.max" if second else "memory.memsw.limit_in_bytes")).write_text("0" if second else str(mib << 20))
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        if os.environ.get("FLEET_REQUIRE_MEMORY_GROUP"):
            raise
        pytest.skip(f"making a control group wants root and cgroups with memory: {error}")
    try:
        yield MemoryGroup(folder)
    finally:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                folder.rmdir()
                break
            except OSError:  # what ran in it is still ending
                time.sleep(0.05)

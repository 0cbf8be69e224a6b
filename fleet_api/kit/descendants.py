"""Processes by descent and by mark, read from /proc: for ending all that remains of one's own children (Linux)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Return the parent of every process."""
    found: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid: int) -> set[int]:
    """Return every process below ``pid``."""
    above = parents()
    found: set[int] = set()
    fresh = {pid}
    while fresh:
        fresh = {child for child, parent in above.items() if parent in fresh and child not in found}
        found |= fresh
    return found


def marked(name: str, value: str) -> set[int]:
    """Return the processes of this user that have ``name=value`` in their environment."""
    mark = f"{name}={value}".encode()
    found: set[int] = set()
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


def end(pids: set[int], signal_number: int = signal.SIGKILL) -> None:
    """Send a signal to each; what is gone already is left."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)


def end_below(pid: int, seconds: float) -> bool:
    """Kill every descendant of ``pid`` until none is left; return whether that was so within ``seconds``."""
    deadline = time.monotonic() + seconds
    while below := {each for each in descendants(pid) if not _zombie(each)}:
        end(below)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _zombie(pid: int) -> bool:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True

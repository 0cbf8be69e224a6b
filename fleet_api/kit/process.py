"""Child processes that never outlive their parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
LOG_LIMIT = 10 * 1024 * 1024  # bytes


def die_with_parent() -> None:
    """In a child, before exec: ask the kernel for SIGTERM when the parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def spawn(argv: Sequence[str], env: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    """Start a child in a process group of its own, so that Ctrl-C reaches the parent alone; its output goes to ``log``.

    A log over :data:`LOG_LIMIT` is first moved to ``<log>.1``.
    """
    with _appending(log) as file:
        return await asyncio.create_subprocess_exec(
            *argv,
            env={**os.environ, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            process_group=0,
            preexec_fn=die_with_parent,
        )


async def stop(process: asyncio.subprocess.Process, grace: float) -> None:
    """Ask a child to end; after ``grace`` seconds end it."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), grace)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _appending(log: Path) -> IO[bytes]:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")

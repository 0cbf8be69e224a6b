"""Child processes that never outlive their parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from fleet_api.kit.rotating import RotatingLog

PR_SET_PDEATHSIG = 1
LONGEST_LINE = 1024 * 1024  # bytes


def die_with_parent() -> None:
    """In a child, before exec: ask the kernel for SIGTERM when the parent ends, however it ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


async def spawn(argv: Sequence[str], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start a child in a process group of its own, so that Ctrl-C reaches the parent alone; read its output with :func:`keep_log`."""
    return await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST_LINE,
        process_group=0,
        preexec_fn=die_with_parent,
    )


async def keep_log(process: asyncio.subprocess.Process, log: RotatingLog) -> None:
    """Write a child's output to its log until it closes it."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # longer than a line may be: what was read of it is dropped
            continue
        if not line:
            return
        log.write(line)


async def stop(process: asyncio.subprocess.Process, grace: float) -> None:
    """Ask a child to end; after ``grace`` seconds end it."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

"""Follows the progress that long modules tell on a node, while a play is at work there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from fleet_api.errors import FleetError
from fleet_api.nodes.remote import Remote
from fleet_api.operations.work import Work

log = structlog.get_logger()

FOLDER = "/run/fleet/progress"  # as in plugins/module_utils/progress.py
FIRST_LOOK_SECONDS = 1.0
LONGEST_LINE = 4096
A_SECOND = 5.0
"""Lines of one node that are kept in a second: our modules write two; a node that means ill writes what it likes."""


def command(operation_id: str) -> str:
    """Return the command that prints the operation's progress on a node as it comes."""
    path = f"{FOLDER}/{operation_id}.jsonl"
    return f"while ! test -r {path}; do sleep {FIRST_LOOK_SECONDS:g}; done; exec tail -n +1 -f {path}"


@asynccontextmanager
async def followed(remote: Remote, work: Work, node_id: str, address: str, port: int, credential_id: str) -> AsyncIterator[None]:
    """Tell the operation of a node's progress while the context is open."""

    async def follow() -> None:
        try:
            async with remote.lines(address, port, credential_id, command(work.id)) as lines:
                allowed, since = A_SECOND, time.monotonic()
                async for line in lines:
                    now = time.monotonic()
                    allowed, since = min(A_SECOND, allowed + A_SECOND * (now - since)), now
                    if allowed >= 1 and _tell(work, node_id, line):
                        allowed -= 1
        except FleetError as error:  # the play itself says what is wrong with the node
            log.info("progress_not_followed", node=node_id, reason=error.detail)

    task = asyncio.get_running_loop().create_task(follow(), name=f"progress of {node_id}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def word_of(line: bytes) -> tuple[str, str, float | None] | None:
    """Return what a line says: of what, the text, percent; None for a line that no module of ours writes. Pure."""
    if len(line) > LONGEST_LINE:
        return None
    try:
        said = json.loads(line)
        what, text, percent = said["what"], said["text"], said.get("percent")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(what, str) or not isinstance(text, str):
        return None
    good = isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100
    return what[:40], text[:300], float(percent) if good else None


def _tell(work: Work, node_id: str, line: bytes) -> bool:
    word = word_of(line)
    if word is None:
        return False
    what, text, percent = word
    shown = "" if percent is None else f" {percent:.0f} %"
    work.tell("progress", f"{what}: {text}{shown}", node_id, percent=percent, what=what)
    return True

"""Follows the progress that long modules tell on a node, while a play is at work there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from fleet_api.errors import FleetError
from fleet_api.nodes.remote import Remote
from fleet_api.operations.work import Work

log = structlog.get_logger()

FOLDER = "/run/fleet/progress"  # as in plugins/module_utils/progress.py
FIRST_LOOK_SECONDS = 1.0


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
                async for line in lines:
                    _tell(work, node_id, line)
        except FleetError as error:  # the play itself says what is wrong with the node
            log.info("progress_not_followed", node=node_id, reason=error.detail)

    task = asyncio.get_running_loop().create_task(follow(), name=f"progress of {node_id}")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _tell(work: Work, node_id: str, line: bytes) -> None:
    try:
        word = json.loads(line)
        text, percent = str(word["text"]), word.get("percent")
    except (ValueError, KeyError, TypeError):
        return
    shown = f" {percent:.0f} %" if isinstance(percent, int | float) else ""
    work.tell("progress", f"{word.get('what', '')}: {text}{shown}", node_id, percent=percent, what=word.get("what"))

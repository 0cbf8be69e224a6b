"""Outputs: from a staged upload to a row and a file, and back to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from sqlalchemy import Connection

from fleet_api.errors import NotFound
from fleet_api.jobs.models import Job
from fleet_api.kit.db import Database
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output
from gpu_inference.protocol import Complete

log = structlog.get_logger()


class OutputService:
    """One instance a process."""

    def __init__(self, db: Database, files: OutputFiles) -> None:
        self._db = db
        self._files = files

    async def load(self) -> None:
        """Make the folders and remove what a crash left without a row."""
        await asyncio.to_thread(self._files.prepare)
        known = await self._db.read(repository.filenames)
        orphans = await asyncio.to_thread(self._files.sweep, known)
        if orphans:
            log.warning("orphaned_outputs_removed", files=orphans)

    async def stage(self, job_id: str, attempt: int, chunks: AsyncIterator[bytes], sha256: str) -> int:
        """Store an agent's upload until its completion comes; return its bytes."""
        return await self._files.stage(job_id, attempt, chunks, sha256)

    def staged(self, job_id: str, attempt: int) -> Path | None:
        """Return the staged upload of an attempt."""
        return self._files.staged(job_id, attempt)

    def drop_staged(self, job_id: str, attempt: int) -> None:
        """Forget an upload."""
        self._files.drop_staged(job_id, attempt)

    def describe(self, staged: Path, job: Job, node_id: str, word: Complete, now: float) -> Output:
        """Check a staged file (blocking) and return its row, not yet stored. Raises InvalidValue and Conflict."""
        size = self._files.check(staged, word.sha256)
        filename = f"image_{job.id}.png"
        said = word.result
        return Output(
            filename=filename, job_id=job.id, node_id=node_id, prompt=str(job.payload.get("prompt", "")),
            model=str(said.get("model") or job.model or ""), seed=int(said.get("seed", job.payload.get("seed", 0))),
            width=int(said.get("width", 0)), height=int(said.get("height", 0)), bytes=size, sha256=word.sha256, created_at=now,
            parameters={**job.payload, **said},
        )  # fmt: skip

    def publish(self, staged: Path, output: Output) -> None:
        """Put the file in place (blocking), durably."""
        self._files.publish(staged, output.filename)

    def record(self, db: Connection, output: Output) -> None:
        """Inside a write: store the row."""
        repository.add(db, output)

    def path(self, filename: str) -> Path:
        """Return the path of an output."""
        return self._files.path(filename)

    async def page(self, limit: int, offset: int) -> tuple[list[Output], int]:
        """Return a page, newest first, and the number of all."""
        return await self._db.read(lambda db: repository.page(db, limit, offset))

    async def find(self, filename: str, thumbnail: bool = False) -> Path:
        """Return the path of a file that is there. Raises InvalidValue and NotFound."""
        path = self._files.path(filename)
        row = await self._db.read(lambda db: repository.get(db, filename))
        if row is None or not path.exists():
            raise NotFound(f"There is no output {filename!r}.")
        return await asyncio.to_thread(self._files.thumbnail, filename) if thumbnail else path

    async def delete(self, filename: str) -> None:
        """Delete one output. Raises InvalidValue and NotFound."""
        self._files.path(filename)
        if not await self._db.write(lambda db: repository.remove(db, filename)):
            raise NotFound(f"There is no output {filename!r}.")
        await asyncio.to_thread(self._files.remove, filename)

    async def clear(self) -> int:
        """Delete every output; return how many there were."""
        names = await self._db.write(repository.remove_all)
        for name in names:
            await asyncio.to_thread(self._files.remove, name)
        return len(names)

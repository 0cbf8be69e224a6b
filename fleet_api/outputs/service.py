"""Outputs: from a staged upload to a row and a file, and back to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection

from fleet_api.errors import InvalidValue, NotFound
from fleet_api.jobs import repository as jobs_repository
from fleet_api.jobs.models import Job
from fleet_api.jobs.states import JobState
from fleet_api.kit.db import Database
from fleet_api.kit.validation import sentence
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output
from gpu_inference.protocol import Complete, ImageResult

log = structlog.get_logger()


class OutputService:
    """One instance a process."""

    def __init__(self, db: Database, files: OutputFiles) -> None:
        self._db = db
        self._files = files

    async def load(self) -> None:
        """Make the folders and remove what a crash left behind; a file that might be somebody's is left alone."""
        await asyncio.to_thread(self._files.prepare)
        jobs = await self._db.read(lambda db: jobs_repository.in_state(db, JobState.PROCESSING))
        await asyncio.to_thread(self._files.sweep_staging, {(job.id, job.attempt) for job in jobs})
        known = await self._db.read(repository.filenames)
        orphans = {job_id: path for job_id, path in self._files.own_files().items() if path.name not in known}
        states = await self._db.read(lambda db: jobs_repository.states_of(db, list(orphans)))
        for job_id, path in orphans.items():
            if job_id in states and states[job_id] != JobState.COMPLETED:
                path.unlink(missing_ok=True)  # its attempt crashed between the file and the row, and is made again
            else:
                log.warning("output_without_a_row", file=path.name)  # a restored backup, or another's file: never ours to delete

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
        said = image_result(word)
        filename = f"image_{job.id}.png"
        return Output(
            filename=filename, job_id=job.id, node_id=node_id, prompt=str(job.payload.get("prompt", "")),
            model=said.model, seed=said.seed,
            width=said.width, height=said.height, bytes=size, sha256=word.sha256, created_at=now,
            parameters={**job.payload, **said.model_dump()},
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
        if not thumbnail:
            return path
        try:
            return await asyncio.to_thread(self._files.thumbnail, filename)
        except (OSError, ValueError) as error:
            raise NotFound(f"There is no thumbnail of {filename!r}: the file is gone or damaged.") from error

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


def image_result(word: Complete) -> ImageResult:
    """Return what the agent says of a picture. Raises InvalidValue where it is not what the protocol has."""
    try:
        return ImageResult.model_validate(word.result)
    except ValidationError as error:
        raise InvalidValue("result." + sentence(error.errors(include_url=False), ImageResult.model_fields)) from None

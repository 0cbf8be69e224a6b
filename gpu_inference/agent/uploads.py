"""Finished pictures on their way to the control plane.

A picture and its result are on disk before they are sent and until the control plane has answered, so that neither its
restart nor the agent's loses one. Sending twice is harmless: a repeat is 200, a closed attempt 410.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List

from pydantic import ValidationError

from gpu_inference.agent import logs
from gpu_inference.agent.client import ApiClient, Gone, Refused, persist
from gpu_inference.agent.files import make_private_dir, write_private
from gpu_inference.protocol import Complete, Fail, Held

FOLDER = "pending"
REFUSALS = 3
REFUSED_WAIT = 1.0


@dataclass(frozen=True)
class Pending:
    """A finished attempt: the message that ends it and the file that goes before."""

    message: Complete
    note: Path
    file: Path

    @property
    def held(self) -> Held:
        """The attempt."""
        return Held(job_id=self.message.job_id, attempt=self.message.attempt)

    def discard(self) -> None:
        """Removes both files."""
        for path in (self.note, self.file):
            try:
                path.unlink()
            except FileNotFoundError:
                continue


class Outbox:
    """The folder of finished attempts."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        make_private_dir(self._folder)

    def keep(self, held: Held, incarnation: str, png: bytes, result: Dict[str, Any]) -> Pending:
        """Puts a finished attempt on disk, the file first: a note without its file cannot be."""
        sha256 = hashlib.sha256(png).hexdigest()
        message = Complete(job_id=held.job_id, attempt=held.attempt, incarnation=incarnation, sha256=sha256, result=result)
        stem = hashlib.sha256(f"{held.job_id}/{held.attempt}".encode()).hexdigest()[:32]
        pending = Pending(message, self._folder / (stem + ".json"), self._folder / (stem + ".png"))
        write_private(pending.file, png)
        write_private(pending.note, message.model_dump_json().encode("utf-8"))
        return pending

    def waiting(self) -> List[Pending]:
        """The attempts that were not acknowledged; what is incomplete or damaged is removed."""
        found = []
        for note in sorted(self._folder.glob("*.json")):
            file = note.with_suffix(".png")
            try:
                message = Complete.model_validate_json(note.read_bytes())
                sound = hashlib.sha256(file.read_bytes()).hexdigest() == message.sha256
            except (OSError, ValidationError):
                sound = False
            if sound:
                found.append(Pending(message, note, file))
            else:
                note.unlink()
        kept = {pending.file for pending in found}
        for path in self._folder.iterdir():
            if path.suffix != ".json" and path not in kept:
                path.unlink()
        return found


async def deliver(client: ApiClient, pending: Pending, abandoned: Callable[[], bool] = lambda: False) -> bool:
    """Uploads and completes until the control plane answers; whether it took the picture. The files are gone then.

    A refusal is tried again some times: a control plane that restarts between the two calls may have lost the upload.
    """
    held = pending.held

    async def send() -> bool:
        await client.upload(held, pending.file.read_bytes(), pending.message.sha256)
        await client.complete(pending.message)
        return True

    reason = ""
    for _ in range(REFUSALS):
        try:
            taken = bool(await persist(send, "complete", abandoned))
        except Gone:
            logs.info("A result came too late and is dropped.", job_id=held.job_id, attempt=held.attempt)
            taken = False
        except Refused as error:
            reason = str(error)
            logs.warning("A result was refused.", job_id=held.job_id, attempt=held.attempt, reason=reason)
            await asyncio.sleep(REFUSED_WAIT)
            continue
        break
    else:
        taken = False
        await report_failure(client, held, pending.message.incarnation, f"The result was refused. {reason}", "refused", True, abandoned)
    pending.discard()
    return taken


async def report_failure(
    client: ApiClient, held: Held, incarnation: str, error: str, kind: str, retry: bool, abandoned: Callable[[], bool] = lambda: False
) -> None:
    """Ends an attempt that gave nothing; a control plane that no longer wants to know is left in peace."""
    message = Fail(
        job_id=held.job_id, attempt=held.attempt, incarnation=incarnation, error=error[:2000] or kind, kind=kind[:32], retry=retry
    )
    try:
        await persist(lambda: client.fail(message), "fail", abandoned)
    except (Gone, Refused) as refusal:
        logs.info("The end of an attempt was not wanted.", job_id=held.job_id, attempt=held.attempt, reason=str(refusal))

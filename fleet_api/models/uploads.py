"""Uploads of models and LoRAs: begun, resumed, checked by their content, and put into the store; or refused, with nothing left."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import structlog
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from fleet_api.errors import Conflict, FleetError, InvalidValue, TooLarge, Unavailable
from fleet_api.kit.validation import sentence
from fleet_api.models.finite import Finite
from fleet_api.models.form import FormReader
from fleet_api.models.judging import of_safetensors
from fleet_api.models.kinds import LORA, SUFFIX
from fleet_api.models.models import StoredModel
from fleet_api.models.safetensors import Header, check_file
from fleet_api.models.schemas import UploadBody, UploadView
from fleet_api.models.staging import BUFFER_BYTES, Note, Staging
from fleet_api.models.store import ModelStore, NewModel

log = structlog.get_logger()

MAX_UPLOADS = 32
REMEMBERED = 200
"""So many finished uploads are told of again to who asks."""


class Uploads:
    """One instance a process, used on the event loop only."""

    def __init__(self, staging: Staging, models: ModelStore, limit: int) -> None:
        self._staging = staging
        self._models = models
        self._limit = limit
        self._busy: set[str] = set()
        self._finishing: dict[str, asyncio.Task[UploadView]] = {}
        self._stored: dict[str, UploadView] = {}

    async def load(self) -> None:
        """Remove what a restart cut off and nobody can go on with."""
        for note in await asyncio.to_thread(self._staging.notes):
            if note.size is None:
                self._staging.remove(note.id)
        await self.sweep()

    async def begin(self, kind: str, body: UploadBody) -> UploadView:
        """Begin an upload, or find the one that was begun in the same words with the same checksum.

        Raises:
            TooLarge: it is over the limit.
            Conflict: the name is in use, or too many uploads are open.
            DiskFull: no room.
        """
        self._check(kind, body.name, body.size)
        there = await asyncio.to_thread(self._staging.notes)
        for note in there:
            same = (note.kind, note.name, note.filename, note.size, note.sha256, note.base, note.source)
            if body.sha256 and same == (kind, body.name, body.filename, body.size, body.sha256, body.base, body.source):
                return self._view(note)
        if len(there) >= MAX_UPLOADS:
            raise Conflict(f"{MAX_UPLOADS} uploads are open; end or delete one first.")
        note = Note(id=uuid.uuid4().hex, kind=kind, **body.model_dump())
        await asyncio.to_thread(self._staging.begin, note)
        return self._view(note)

    def view(self, upload_id: str) -> UploadView:
        """Return where an upload stands. Raises NotFound."""
        if upload_id in self._stored:
            return self._stored[upload_id]
        return self._view(self._staging.note(upload_id))

    async def append(self, upload_id: str, offset: int, chunks: AsyncIterator[bytes]) -> UploadView:
        """Take in the bytes from ``offset`` on; with the last of them the file is checked and stored.

        Raises:
            NotFound: there is no such upload.
            Conflict: another request is at it, or the offset is not where it stands.
            InvalidValue: the file is not what it should be, and nothing of it is left; or the connection was cut, and what came is kept.
        """
        if upload_id in self._stored:
            return self._stored[upload_id]
        note = self._staging.note(upload_id)
        if upload_id in self._finishing:
            return await asyncio.shield(self._finishing[upload_id])
        if upload_id in self._busy:
            raise Conflict("Another request is sending bytes of this upload; wait until it has ended.")
        self._busy.add(upload_id)
        try:
            there = self._staging.offset(upload_id)
            if offset != there:
                raise Conflict(f"offset: {offset} is not where the upload stands; go on at {there}.")
            try:
                there = await self._staging.append(upload_id, note.size, self._limit, chunks)
            except ClientDisconnect:
                raise InvalidValue(f"The upload was cut off; go on at {self._staging.offset(upload_id)}.") from None
            except InvalidValue:
                self._staging.remove(upload_id)
                raise
            if there != note.size:
                return self._view(note)
            task = asyncio.ensure_future(self._finish(note))
            self._finishing[upload_id] = task
            task.add_done_callback(lambda _: self._finishing.pop(upload_id, None))
        finally:
            self._busy.discard(upload_id)
        return await asyncio.shield(task)

    async def form(self, kind: str, content_type: str, chunks: AsyncIterator[bytes]) -> UploadView:
        """Take in a whole form: a file and what it is, in any order. Raises as :meth:`append`; nothing is left of one that is refused."""
        reader = FormReader(content_type, chunks)
        note = Note(id=uuid.uuid4().hex, kind=kind, name="", filename="", size=None)
        try:
            await reader.begin()
            form = reader.form
            if form.filename is None:
                raise InvalidValue("file is required: a part of the form that is called file.")
            if "name" in form.fields:
                self._check(kind, form.fields["name"], 0)
            self._busy.add(note.id)
            await asyncio.to_thread(self._staging.begin, note)
            size = await self._staging.append(note.id, None, self._limit, self._with_room(reader.file()))
            if size == 0:
                raise InvalidValue("file: it is empty.")
            given = {name: form.fields[name] for name in ("name", "base", "source", "sha256") if form.fields.get(name)}
            body = _checked({"name": form.filename.removesuffix(SUFFIX), **given, "filename": form.filename, "size": size})
            return await self._finish(Note(id=note.id, kind=kind, **body.model_dump()))
        except ClientDisconnect:
            raise InvalidValue("The upload was cut off; send it again, or in parts that can be resumed.") from None
        finally:
            self._busy.discard(note.id)
            self._staging.remove(note.id)

    async def abandon(self, upload_id: str) -> None:
        """Give an upload up. Raises NotFound, and Conflict while it is at work."""
        self._staging.note(upload_id)
        if upload_id in self._busy or upload_id in self._finishing:
            raise Conflict("The upload is at work; wait until it has ended.")
        self._staging.remove(upload_id)

    async def sweep(self) -> None:
        """Remove uploads that were left."""
        if not self._busy and not self._finishing:
            removed = await asyncio.to_thread(self._staging.sweep)
            if removed:
                log.info("old_uploads_removed", number=removed)

    async def _finish(self, note: Note) -> UploadView:
        path = self._staging.path(note.id)
        try:
            header = await asyncio.to_thread(check_file, path)
            numbers = _refuse_foreign(note, header)
            sha256 = await asyncio.to_thread(_digest, path, numbers)
            if note.sha256 is not None and sha256 != note.sha256:
                raise InvalidValue(f"sha256: the file that came has {sha256}, and {note.sha256} was announced.")
            if numbers is not None and numbers.note:
                raise InvalidValue(f"file: {numbers.note}")
            size = path.stat().st_size
            new = NewModel(note.kind, note.name, note.filename, size, sha256, note.base, note.source, header)
            row = await self._models.add(new, path)
        except Unavailable:  # the store's trouble, not the file's: another PATCH tries again
            raise
        except FleetError:
            self._staging.remove(note.id)
            raise
        self._staging.remove(note.id)
        view = _stored_view(note.id, row)
        self._stored[note.id] = view
        if len(self._stored) > REMEMBERED:
            del self._stored[next(iter(self._stored))]
        return view

    async def _with_room(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Look at the disk now and then, where the size is not known before."""
        since = 0
        async for chunk in chunks:
            since += len(chunk)
            if since >= 64 * BUFFER_BYTES:
                since = 0
                self._staging.check_room(0)
            yield chunk

    def _check(self, kind: str, name: str, size: int) -> None:
        if size > self._limit:
            raise TooLarge(f"size: {size:,} bytes are more than the {self._limit:,} that a model may have (FLEET_MODEL_LIMIT).")
        self._models.refuse_taken(kind, name)

    def _view(self, note: Note) -> UploadView:
        status = "checking" if note.id in self._finishing else "receiving"
        return UploadView(
            upload_id=note.id, type=note.kind, name=note.name, filename=note.filename, size=note.size or 0,
            offset=self._staging.offset(note.id), status=status,
        )  # fmt: skip


def body_of(raw: bytes) -> UploadBody:
    """Return the JSON body that begins an upload. Raises InvalidValue."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        raise InvalidValue("The request body is not valid JSON; or send a form, as multipart/form-data.") from None
    return _checked(said)


def _checked(said: Any) -> UploadBody:
    try:
        return UploadBody.model_validate(said)
    except ValidationError as error:
        raise InvalidValue(sentence(error.errors(include_url=False), UploadBody.model_fields)) from None


def _stored_view(upload_id: str, row: StoredModel) -> UploadView:
    return UploadView(
        upload_id=upload_id, type=row.type, name=row.name, filename=row.files[0]["name"], size=row.size, offset=row.size, status="stored",
        sha256=row.sha256, note=row.note,
    )  # fmt: skip


def _refuse_foreign(note: Note, header: Header) -> Finite | None:
    """Return what is to look at the numbers of a LoRA. Raises InvalidValue for a file that can be none of SDXL."""
    if note.kind != LORA:
        return None
    judged = of_safetensors(note.kind, header, note.base)
    if judged.foreign:
        raise InvalidValue(f"file: {judged.note}")
    return Finite(header)


def _digest(path: Any, numbers: Finite | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(BUFFER_BYTES):
            digest.update(chunk)
            if numbers is not None:
                numbers.feed(chunk)
    return digest.hexdigest()

"""One file from one source: resumed where it was cut off, verified, and then there whole."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import time
from typing import IO, Any, AsyncContextManager, Callable, Dict

import httpx

from gpu_inference.agent.cache import ModelCache
from gpu_inference.protocol import StoredFile

CHUNK_BYTES = 1024 * 1024
WINDOW_SECONDS, WINDOW_BYTES = 60.0, 64 * 1024
"""A source that gives less than this is left for another."""

TIMEOUT = httpx.Timeout(20.0, connect=5.0)
Open = Callable[[Dict[str, str]], AsyncContextManager[httpx.Response]]
"""Asks the source, with headers such as ``Range``."""


class SourceFailed(Exception):
    """The source did not give the file; another may. ``damaged`` says that what it gave was something else."""

    def __init__(self, message: str, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


async def _in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(call, *arguments))


def _hashed(path: str) -> Any:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(CHUNK_BYTES), b""):
            digest.update(block)
    return digest


def _write(stream: IO[bytes], digest: Any, chunk: bytes) -> None:
    stream.write(chunk)
    digest.update(chunk)


async def download(cache: ModelCache, file: StoredFile, ask: Open, told: Callable[[int], None]) -> None:
    """Brings a file into the cache; ``told`` hears how many bytes of it are there.

    What came before the connection broke is kept for the next try, from whatever source. Raises :class:`SourceFailed`, and OSError
    where the disk does not take it.
    """
    part = cache.part(file.sha256)
    there = part.stat().st_size if part.exists() else 0
    if there > file.size:
        os.truncate(str(part), 0)
        there = 0
    digest = await _in_thread(_hashed, str(part)) if there else hashlib.sha256()
    told(there)
    if there < file.size:
        digest = await _receive(str(part), file, there, digest, ask, told)
    elif not there:
        part.touch(mode=0o600)
    if digest.hexdigest() != file.sha256:
        part.unlink()
        raise SourceFailed("What came is not the file: its SHA-256 differs.", damaged=True)
    await _in_thread(cache.finish, file)


async def _receive(part: str, file: StoredFile, there: int, digest: Any, ask: Open, told: Callable[[int], None]) -> Any:
    headers = {"Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    try:
        async with ask(headers) as response:
            if response.status_code not in (200, 206):
                raise SourceFailed(f"It answered {response.status_code}.")
            if there and response.status_code == 200:
                there, digest = 0, hashlib.sha256()
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | (0 if there else os.O_TRUNC), 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.seek(there)
                since, then = there, time.monotonic()
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    if there + len(chunk) > file.size:
                        os.truncate(part, 0)
                        raise SourceFailed("It gave more than the file has.", damaged=True)
                    await _in_thread(_write, stream, digest, chunk)
                    there += len(chunk)
                    told(there)
                    if time.monotonic() - then > WINDOW_SECONDS:
                        if there - since < WINDOW_BYTES:
                            raise SourceFailed("It gives too little.")
                        since, then = there, time.monotonic()
    except httpx.HTTPError as error:
        raise SourceFailed(f"The connection broke ({type(error).__name__}).") from error
    if there < file.size:
        raise SourceFailed("It ended early.")
    return digest

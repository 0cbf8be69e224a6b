"""One file from sources of all kinds: those that break, lie, or give something else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from gpu_inference.agent import download as module
from gpu_inference.agent.cache import ModelCache
from gpu_inference.agent.download import SourceFailed, download
from gpu_inference.protocol import StoredFile

DATA = bytes(range(256)) * 40
FILE = StoredFile(name="x", size=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path, 2**20)


def fetch(cache: ModelCache, answer: Answer, file: StoredFile = FILE) -> list[int]:
    """Download once; return what was told of it."""
    told: list[int] = []

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await download(cache, file, lambda headers: http.stream("GET", "http://x.invalid/", headers=headers), told.append)

    asyncio.run(run())
    return told


def good(request: httpx.Request) -> httpx.Response:
    start = int(request.headers.get("Range", "bytes=0-")[6:-1])
    return httpx.Response(206 if start else 200, content=DATA[start:])


def whole(cache: ModelCache) -> bool:
    path = cache.path(FILE.sha256)
    assert not path.exists() or path.read_bytes() == DATA, "never anything else under its name"
    return path.exists()


def test_a_file_comes(cache: ModelCache) -> None:
    assert fetch(cache, good) == [0, len(DATA)]
    assert whole(cache)
    assert not cache.part(FILE.sha256).exists()


@pytest.mark.parametrize("there", [1, 4096, len(DATA) - 1, len(DATA)])
def test_what_is_there_is_not_fetched_again(cache: ModelCache, there: int) -> None:
    cache.part(FILE.sha256).write_bytes(DATA[:there])
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Range"])
        return good(request)

    fetch(cache, answer)
    assert whole(cache)
    assert asked == ([f"bytes={there}-"] if there < len(DATA) else [])


def test_a_source_that_knows_no_range_begins_anew(cache: ModelCache) -> None:
    cache.part(FILE.sha256).write_bytes(DATA[:100])
    fetch(cache, lambda request: httpx.Response(200, content=DATA))
    assert whole(cache)


def test_a_source_that_ends_early_leaves_what_came(cache: ModelCache) -> None:
    with pytest.raises(SourceFailed, match="ended early"):
        fetch(cache, lambda request: httpx.Response(200, content=DATA[:500]))
    assert not whole(cache)
    assert cache.part(FILE.sha256).stat().st_size == 500
    fetch(cache, good)
    assert whole(cache)


def test_a_connection_that_breaks_leaves_what_came(cache: ModelCache) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        yield DATA[:500]
        raise httpx.ReadError("broken")

    with pytest.raises(SourceFailed, match="connection broke"):
        fetch(cache, lambda request: httpx.Response(200, content=pieces()))
    fetch(cache, good)
    assert whole(cache)


@pytest.mark.parametrize("status", [206, 301, 403, 404, 416, 500, 503])
def test_other_answers(cache: ModelCache, status: int) -> None:
    with pytest.raises(SourceFailed):
        fetch(cache, lambda request: httpx.Response(status, content=b"sorry"))
    assert not whole(cache)


def test_something_else_is_thrown_away(cache: ModelCache) -> None:
    with pytest.raises(SourceFailed, match="SHA-256") as failed:
        fetch(cache, lambda request: httpx.Response(200, content=DATA[:-1] + b"x"))
    assert failed.value.damaged
    assert not cache.part(FILE.sha256).exists()


def test_more_than_the_file_has(cache: ModelCache) -> None:
    with pytest.raises(SourceFailed, match="more than the file has"):
        fetch(cache, lambda request: httpx.Response(200, content=DATA + b"x"))
    assert cache.part(FILE.sha256).stat().st_size == 0


def test_a_part_that_is_too_long_begins_anew(cache: ModelCache) -> None:
    cache.part(FILE.sha256).write_bytes(DATA + b"more")
    fetch(cache, good)
    assert whole(cache)


def test_a_part_that_is_damaged_is_found_and_fetched_anew(cache: ModelCache) -> None:
    cache.part(FILE.sha256).write_bytes(b"\0" * 500)
    with pytest.raises(SourceFailed, match="SHA-256"):
        fetch(cache, good)
    fetch(cache, good)
    assert whole(cache)


def test_an_empty_file(cache: ModelCache) -> None:
    nothing = StoredFile(name="x", size=0, sha256=hashlib.sha256(b"").hexdigest())
    fetch(cache, lambda request: pytest.fail("nothing is asked for"), nothing)
    assert cache.path(nothing.sha256).read_bytes() == b""


def test_a_source_that_drips_is_left(cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_SECONDS", 0.05)

    async def drips():  # type: ignore[no-untyped-def]
        for byte in DATA[:50]:
            await asyncio.sleep(0.02)
            yield bytes([byte])

    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    with pytest.raises(SourceFailed, match="too little"):
        fetch(cache, lambda request: httpx.Response(200, content=drips()))

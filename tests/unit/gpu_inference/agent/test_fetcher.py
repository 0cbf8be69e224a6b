"""What the agent's fetcher leaves behind when it is interrupted."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any, cast

from gpu_inference.agent.cache import ModelCache, key_of, library_of
from gpu_inference.agent.fetching import Fetcher
from gpu_inference.protocol import BeatReply, StoredFile, StoredItem, StoredKey


class BusyEngine:
    """Its job does not end, so it never comes to look at its library."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def rescan(self) -> None:
        self.asked.set()
        await asyncio.Event().wait()


def item_of(name: str, data: bytes) -> StoredItem:
    sha256 = hashlib.sha256(data).hexdigest()
    return StoredItem(type="checkpoint", name=name, sha256=sha256, files=[StoredFile(name="x", size=len(data), sha256=sha256)])


def test_what_was_evicted_for_a_model_that_is_not_wanted_any_more_is_gone(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path, 100)
    old, new = item_of("a", b"a" * 60), item_of("b", b"b" * 60)
    cache.part(old.sha256).write_bytes(b"a" * 60)
    cache.finish(old.files[0])
    cache.add(old)

    async def run() -> None:
        engine = BusyEngine()
        fetcher = Fetcher(cast(Any, None), cast(Any, engine), cache, None, "i", set, lambda: None)
        running = asyncio.ensure_future(fetcher.run())
        fetcher.heed(BeatReply(wanted=[new]))
        await asyncio.wait_for(engine.asked.wait(), 5)
        assert not list(library_of(tmp_path).rglob("x")), "the engine cannot see it any more"
        fetcher.heed(BeatReply(drop=[StoredKey(type=new.type, name=new.name)]))
        while fetcher.report().fetching:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert cache.held() == []
        assert not cache.has(old), "it is fetched again when it is wanted"
        assert key_of(old) in cache.gone
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())

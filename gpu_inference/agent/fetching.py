"""Fetches the stored models that the control plane wants here, one after the other, and drops those that it has no more."""

from __future__ import annotations

import asyncio
import time
from typing import AsyncContextManager, Callable, Dict, List, Optional, Set
from urllib.parse import quote

import httpx

from gpu_inference.agent import logs
from gpu_inference.agent.cache import Key, ModelCache, NoRoom, key_of
from gpu_inference.agent.client import ApiClient, Backoff, Refused, Unreachable
from gpu_inference.agent.download import TIMEOUT, Open, SourceFailed, download
from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.share import Share
from gpu_inference.protocol import (
    BeatReply,
    CacheReport,
    FailedItem,
    FetchingItem,
    SourceReply,
    SourceRequest,
    StoredFile,
    StoredItem,
)

FAILED_SECONDS = 60.0
"""So long after a failure the same is not tried again."""

UNUSABLE_SECONDS = 3600.0
"""As above, where it is there and the engine cannot use it."""

MOST_HELD, MOST_FILES = 1000, 4000
"""So many are told of in a beat, which must stay well below what the control plane takes."""

DAMAGED_TRIES = 3
NEIGHBOUR, WAIT = "neighbour", "wait"


class FetchFailed(Exception):
    """An item could not be fetched: one sentence, and how long the same is not tried again."""

    def __init__(self, message: str, seconds: float = FAILED_SECONDS) -> None:
        super().__init__(message)
        self.seconds = seconds


class Fetcher:
    """Runs until it is cancelled. ``in_use`` says which items must not be evicted; ``told`` is called when there is news for a beat."""

    def __init__(
        self,
        client: ApiClient,
        engine: EngineProcess,
        cache: ModelCache,
        share: Optional[Share],
        incarnation: str,
        in_use: Callable[[], Set[Key]],
        told: Callable[[], None],
    ) -> None:
        self._client = client
        self._engine = engine
        self._cache = cache
        self._share = share
        self._incarnation = incarnation
        self._in_use = in_use
        self._told = told
        self._neighbours = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=TIMEOUT)
        self._wanted: List[StoredItem] = []
        self._drop: Set[Key] = set()
        self._now: Optional[FetchingItem] = None
        self._task: Optional[asyncio.Task[None]] = None
        self._failed: Dict[Key, str] = {}
        self._retry_at: Dict[Key, float] = {}
        self._woken = asyncio.Event()
        self.news = False
        """Whether something changed since the last report."""

    def heed(self, reply: BeatReply) -> None:
        """Takes in what the control plane wants."""
        if self._share is not None:
            self._share.use_key(reply.share_key)
        self._wanted = reply.wanted
        self._drop = {key_of(each) for each in reply.drop}
        if self._now is not None and key_of(self._now) in self._drop and self._task is not None:
            self._task.cancel()
        if self._drop or self._next() is not None:
            self._woken.set()

    def report(self) -> CacheReport:
        """What the cache holds and what is being fetched."""
        self._forget_failures()
        return CacheReport(
            share_port=self._share.port if self._share is not None else 0,
            held=self._cache.held()[:MOST_HELD],
            files=self._cache.whole()[:MOST_FILES],
            fetching=[self._now.model_copy()] if self._now is not None else [],
            failed=[FailedItem(type=kind, name=name, error=error[:500]) for (kind, name), error in list(self._failed.items())[:100]],
        )

    async def run(self) -> None:
        """Fetches and drops as it is told."""
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                for key in [key_of(each) for each in self._cache.held() if key_of(each) in self._drop]:
                    await self._let_go(key)
                item = self._next()
                while item is not None:
                    await self._fetch(item)
                    item = self._next()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await self._neighbours.aclose()

    def _next(self) -> Optional[StoredItem]:
        self._forget_failures()
        for item in self._wanted:
            if key_of(item) not in self._failed and not self._cache.has(item):
                return item
        return None

    def _forget_failures(self) -> None:
        now = time.monotonic()
        for key in [key for key, at in self._retry_at.items() if at <= now]:
            del self._retry_at[key]
            self._failed.pop(key, None)

    def _say(self) -> None:
        self.news = True
        self._told()

    async def _fetch(self, item: StoredItem) -> None:
        key = key_of(item)
        self._now = FetchingItem(type=item.type, name=item.name, size=sum(file.size for file in item.files))
        logs.info("A model is fetched.", type=item.type, name=item.name, bytes=self._now.size)
        self._task = asyncio.ensure_future(self._bring(item))
        try:
            await asyncio.wait([self._task])
            if self._task.cancelled():
                logs.info("A model is not wanted any more.", type=item.type, name=item.name)
                self._cache.discard(item)
                self._wanted = [each for each in self._wanted if key_of(each) != key]
                return
            self._task.result()
            logs.info("A model is there.", type=item.type, name=item.name)
        except (FetchFailed, NoRoom, OSError, ValueError) as error:
            logs.warning("A model cannot be fetched.", type=item.type, name=item.name, reason=str(error))
            self._failed[key] = str(error) or type(error).__name__
            self._retry_at[key] = time.monotonic() + getattr(error, "seconds", FAILED_SECONDS)
        finally:
            self._now = self._task = None
            self._say()

    async def _bring(self, item: StoredItem) -> None:
        old = [each for each in self._cache.held() if key_of(each) == key_of(item)]
        if old:
            await self._forget(key_of(item), "The store has another by its name.")
        for key in self._cache.room_for(item, self._in_use()):
            await self._forget(key, "It made room for another.")
        for file in self._cache.missing(item):
            await self._bring_file(item, file)
            self._say()
        self._cache.add(item)
        await self._engine.rescan()
        problem = self._engine.problem_of(item.type, item.name)
        if problem is not None:
            self._cache.shelve(key_of(item))
            raise FetchFailed(problem, UNUSABLE_SECONDS)

    async def _bring_file(self, item: StoredItem, file: StoredFile) -> None:
        failed: List[str] = []
        backoff, damaged = Backoff(), 0
        done = sum(each.size for each in item.files if each not in self._cache.missing(item))

        def told(there: int) -> None:
            if self._now is not None:
                self._now.file, self._now.done = file.sha256, done + there

        while True:
            try:
                source = await self._client.source(
                    SourceRequest(
                        type=item.type, name=item.name, incarnation=self._incarnation, sha256=file.sha256,
                        files=self._cache.whole()[:MOST_FILES], failed=failed[-1000:],
                    )
                )  # fmt: skip
                if source.kind == WAIT:
                    await asyncio.sleep(source.wait_seconds)
                    continue
                told(0)
                await download(self._cache, file, self._opener(item, file, source), told)
                logs.info("A file is there.", name=file.name, source=source.node_id or "the store")
                return
            except Unreachable as error:
                await asyncio.sleep(backoff.next(error.after))
            except Refused as error:
                raise FetchFailed(str(error)) from error
            except SourceFailed as error:
                logs.warning("A source failed.", name=file.name, source=source.node_id or "the store", reason=str(error))
                damaged += error.damaged
                if damaged >= DAMAGED_TRIES:
                    raise FetchFailed(f"The file {file.name} came damaged {damaged} times.") from error
                if source.node_id:
                    failed.append(source.node_id)
                else:
                    failed.clear()
                    await asyncio.sleep(backoff.next())

    def _opener(self, item: StoredItem, file: StoredFile, source: SourceReply) -> Open:
        def ask(headers: Dict[str, str]) -> AsyncContextManager[httpx.Response]:
            if source.kind == NEIGHBOUR:
                return self._neighbours.stream("GET", source.url, headers=dict(headers, Authorization="Bearer " + source.ticket))
            path = "models/" + "/".join(quote(part, safe="") for part in (item.type, item.name, file.name))
            return self._client.stream(path, headers, TIMEOUT)

        return ask

    async def _let_go(self, key: Key) -> None:
        """As :meth:`_forget`; a disk that does not let go is tried again with the next beat."""
        try:
            await self._forget(key, "It is not in the store any more.")
        except OSError as error:
            logs.warning("A model cannot be dropped.", type=key[0], name=key[1], reason=str(error))

    async def _forget(self, key: Key, why: str) -> None:
        """The engine lets go first, so that nothing is told of that is not there; where nobody waits for that, it goes all the same."""
        logs.info("A model is dropped.", type=key[0], name=key[1], reason=why)
        self._cache.unlist(key)
        try:
            await self._engine.rescan()
        finally:
            self._cache.remove(key)
            self._say()

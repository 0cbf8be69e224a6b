"""SAQ: one process, its default ten jobs at once."""

import asyncio

from done import REDIS
from done import done as noop_of
from saq import Queue

queue = Queue.from_url(REDIS, name="saq-bench")


async def noop(ctx, *, path):
    noop_of(path)


async def slow(ctx, *, path, seconds):
    noop_of(path)
    await asyncio.sleep(seconds)


settings = {"queue": queue, "functions": [noop, slow]}


async def submit(path):
    await queue.enqueue("noop", path=path)


async def submit_slow(path, seconds):
    await queue.enqueue("slow", path=path, seconds=seconds, timeout=300, retries=3)


WORKER = ["-m", "saq", "saq_app.settings", "--quiet"]

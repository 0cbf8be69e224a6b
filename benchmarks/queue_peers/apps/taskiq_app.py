"""taskiq: a stream broker, so that jobs are acknowledged; one process, its default concurrency."""

import asyncio

from done import REDIS
from done import done as noop_of
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(url=REDIS, queue_name="taskiq-bench")


@broker.task
async def noop(path):
    noop_of(path)


@broker.task
async def slow(path, seconds):
    noop_of(path)
    await asyncio.sleep(seconds)


async def begin():
    await broker.startup()


async def submit(path):
    await noop.kiq(path)


async def submit_slow(path, seconds):
    await slow.kiq(path, seconds)


WORKER = ["-m", "taskiq", "worker", "taskiq_app:broker", "--workers", "1", "--log-level", "ERROR"]

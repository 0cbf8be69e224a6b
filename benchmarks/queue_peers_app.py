"""A no-op job in each of six queues, its client and its worker. Run in an environment of the peers' own, by ``queue_peers``.

The job appends a line with the time of its start (nanoseconds of the machine's monotonic clock) to the file that ``QUEUE_LOG`` names.
Environment: ``QUEUE_PEER``, ``QUEUE_URL``, ``QUEUE_LOG``. Arguments: ``worker``, or ``submit``, ``latency`` or ``through`` and a number.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

PEER, URL, LOG = (os.environ.get(name, "") for name in ("QUEUE_PEER", "QUEUE_URL", "QUEUE_LOG"))
MODULE = "queue_peers_app"
CONCURRENCY = 10

Submit = Callable[[], Awaitable[Any]]


def noop() -> None:
    note(LOG)


def note(path: str) -> None:
    """Append the time to the log."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"%d\n" % time.monotonic_ns())
    os.close(log)


class Log:
    """The starts, as they come."""

    def __init__(self, path: str) -> None:
        open(path, "a").close()
        self._file = open(path, "rb")  # noqa: SIM115
        self._file.seek(0, os.SEEK_END)
        self.starts: list[int] = []

    async def wait(self, number: int, seconds: float = 120.0) -> None:
        """Wait until so many jobs have started since this was made."""
        deadline = time.monotonic() + seconds
        while len(self.starts) < number:
            self.starts += [int(line) for line in self._file.readlines()]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.starts)} of {number} jobs started within {seconds} s")
            await asyncio.sleep(0.0005)


async def measure(what: str, number: int, submit: Submit, path: str) -> dict[str, float]:
    """Submit jobs one after the other and return what is asked for."""
    log = Log(path)
    started = time.monotonic()
    if what == "latency":
        seconds = []
        for each in range(number):
            before = time.monotonic_ns()
            await submit()
            await log.wait(each + 1)
            seconds.append((log.starts[each] - before) / 1e9)
            await asyncio.sleep(0.01)
        seconds.sort()
        return {"start_p50_ms": seconds[len(seconds) // 2] * 1000, "start_p99_ms": seconds[int(len(seconds) * 0.99)] * 1000}
    for _ in range(number):
        await submit()
    submitted = time.monotonic()
    if what == "submit":
        return {"submits_per_second": number / (submitted - started)}
    await log.wait(number)
    return {"jobs_per_second": number / (time.monotonic() - started)}


if PEER == "celery":
    from celery import Celery

    app = Celery(MODULE, broker=URL, backend=URL)
    app.conf.update(task_acks_late=True, broker_connection_retry_on_startup=True)
    task = app.task(name="noop")(noop)

    async def opened() -> Submit:
        async def submit() -> None:
            task.delay()

        return submit

    def work() -> None:
        app.worker_main(["worker", "-P", "prefork", "-c", "1", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"])

elif PEER == "rq":
    from redis import Redis
    from rq import Queue, SimpleWorker

    async def opened() -> Submit:
        queue = Queue("bench", connection=Redis.from_url(URL))

        async def submit() -> None:
            queue.enqueue(f"{MODULE}.noop")

        return submit

    def work() -> None:
        redis = Redis.from_url(URL)
        SimpleWorker([Queue("bench", connection=redis)], connection=redis).work(logging_level="ERROR")

elif PEER == "dramatiq":
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker = RedisBroker(url=URL)
    broker.add_middleware(Results(backend=RedisBackend(url=URL)))
    dramatiq.set_broker(broker)
    actor = dramatiq.actor(noop, store_results=True)

    async def opened() -> Submit:
        async def submit() -> None:
            actor.send()

        return submit

    def work() -> None:
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "-p", "1", "-t", "8", MODULE])

elif PEER == "saq":
    from saq import Queue as SaqQueue
    from saq import Worker as SaqWorker

    async def saq_noop(_: Any) -> None:
        noop()

    async def opened() -> Submit:
        queue = SaqQueue.from_url(URL)
        await queue.connect()

        async def submit() -> None:
            await queue.enqueue("noop")

        return submit

    def work() -> None:
        async def start() -> None:
            queue = SaqQueue.from_url(URL)
            await queue.connect()
            await SaqWorker(queue, functions=[("noop", saq_noop)], concurrency=CONCURRENCY).start()

        asyncio.run(start())

elif PEER == "taskiq":
    from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

    stream = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL))

    @stream.task(task_name="noop")
    async def taskiq_noop() -> None:
        noop()

    async def opened() -> Submit:
        await stream.startup()
        return taskiq_noop.kiq

    def work() -> None:
        words = [sys.executable, "-m", "taskiq", "worker", f"{MODULE}:stream", "--workers", "1", "--log-level", "ERROR"]
        os.execv(sys.executable, words)

elif PEER == "procrastinate":
    from procrastinate import App, PsycopgConnector

    tasks = App(connector=PsycopgConnector(conninfo=URL))

    @tasks.task(name="noop")
    async def procrastinate_noop() -> None:
        noop()

    async def opened() -> Submit:
        await tasks.open_async()
        if not await tasks.check_connection_async():
            await tasks.schema_manager.apply_schema_async()
        return procrastinate_noop.defer_async

    def work() -> None:
        async def start() -> None:
            async with tasks.open_async():
                await tasks.run_worker_async(concurrency=CONCURRENCY)

        asyncio.run(start())


async def client(what: str, number: int) -> dict[str, float]:
    return await measure(what, number, await opened(), LOG)


if __name__ == "__main__":
    import queue_peers_app as own  # under its name, as workers import it

    if sys.argv[1] == "worker":
        own.work()
    else:
        print(json.dumps(asyncio.run(own.client(sys.argv[1], int(sys.argv[2])))), flush=True)
        os._exit(0)

"""Procrastinate on PostgreSQL: one process, one job at a time, woken by LISTEN."""

import asyncio

from done import POSTGRES
from done import done as noop_of
from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=POSTGRES))


@app.task(name="noop")
async def noop(path):
    noop_of(path)


@app.task(name="slow")
async def slow(path, seconds):
    noop_of(path)
    await asyncio.sleep(seconds)


async def begin():
    await app.open_async()
    if not await app.check_connection_async():
        await app.schema_manager.apply_schema_async()


async def submit(path):
    await noop.defer_async(path=path)


async def submit_slow(path, seconds):
    await slow.defer_async(path=path, seconds=seconds)


WORKER = ["-m", "procrastinate", "--app", "procrastinate_app.app", "worker"]

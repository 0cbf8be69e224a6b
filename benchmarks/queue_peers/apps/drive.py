"""Submits to one peer, from the peer's own Python: ``drive.py APP many|slow|latency|worker ...``; prints JSON."""

import asyncio
import importlib
import inspect
import json
import os
import sys
import time

AT_ONCE = 64
PATIENCE = 120.0


def main(app, mode, path, number):
    peer = importlib.import_module(app)
    if mode == "worker":
        print(json.dumps(peer.WORKER))
        return
    if inspect.iscoroutinefunction(peer.submit):
        print(json.dumps(asyncio.run(drive_async(peer, mode, path, number))))
    else:
        print(json.dumps(drive(peer, mode, path, number)))


def starts(path):
    return os.path.getsize(path) // 20 if os.path.exists(path) else 0


def wait_for(path, number):
    end = time.time() + PATIENCE
    while starts(path) < number:
        if time.time() > end:
            raise SystemExit(f"only {starts(path)} of {number} jobs were done in {PATIENCE:g} s")
        time.sleep(0.001)


def drive(peer, mode, path, number):
    if mode == "slow":
        peer.submit_slow(path, 10.0)
        return {}
    if mode == "latency":
        return {"seconds": [one(lambda: peer.submit(path), path) for _ in range(number)]}
    begun = time.time()
    for _ in range(number):
        peer.submit(path)
    submitted = time.time() - begun
    wait_for(path, number)
    return {"submitted": submitted, "done": time.time() - begun}


def one(submit, path):
    before, begun = starts(path), time.time()
    submit()
    wait_for(path, before + 1)
    time.sleep(0.02)
    return last(path) - begun


def last(path):
    with open(path, "rb") as file:
        file.seek(-20, os.SEEK_END)
        return float(file.read())


async def drive_async(peer, mode, path, number):
    if hasattr(peer, "begin"):
        await peer.begin()
    if mode == "slow":
        await peer.submit_slow(path, 10.0)
        return {}
    if mode == "latency":
        found = []
        for _ in range(number):
            before, begun = starts(path), time.time()
            await peer.submit(path)
            wait_for(path, before + 1)
            await asyncio.sleep(0.02)
            found.append(last(path) - begun)
        return {"seconds": found}
    begun, left = time.time(), [number]

    async def some():
        while left[0] > 0:
            left[0] -= 1
            await peer.submit(path)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    submitted = time.time() - begun
    wait_for(path, number)
    return {"submitted": submitted, "done": time.time() - begun}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

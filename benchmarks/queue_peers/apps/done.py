"""What every peer's job does: nothing, and leaves a trace of it. Imported by the peers' own Python."""

import os
import time


def done(path: str) -> None:
    """Append the time of the start, 20 bytes, in one write."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{time.time():19.6f}\n".encode())


def slow(path: str, seconds: float) -> None:
    """As :func:`done`, then sleep."""
    done(path)
    time.sleep(seconds)


REDIS = os.environ.get("BENCH_REDIS", "")
POSTGRES = os.environ.get("BENCH_POSTGRES", "")

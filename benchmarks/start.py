"""How long ``fleet up`` takes until a picture could be made: on a new data folder, and on one that was used before."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.servers import free_port


def until_ready(home: Path) -> float:
    """Start, wait for the word that it is ready, stop; return the seconds to the word."""
    started = time.monotonic()
    argv = [sys.executable, "-m", "fleet_api", "up", "--home", str(home), "--port", str(free_port())]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if re.search("ready on http", line):
                return time.monotonic() - started
        raise RuntimeError("fleet up ended before it was ready")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def report() -> dict[str, Any]:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        first, again = (until_ready(Path(folder) / "home") for _ in range(2))
    print(f"time to ready, new data folder  {first:5.2f} s")
    print(f"time to ready, again            {again:5.2f} s    (promise: under 5)")
    return {"first_seconds": first, "again_seconds": again}


if __name__ == "__main__":
    report()

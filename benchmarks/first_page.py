"""How soon the first page is painted, and what it weighs, in Chromium with an empty cache; the API pages of the same server beside it.

Wants playwright and Debian's Chromium. ``python -m benchmarks.first_page``
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, sync_playwright

from benchmarks.servers import free_port

RESULTS = Path(__file__).parent / "results" / "first_page.json"
ROUNDS = 7
PICTURES = 24
PROMISED_SECONDS = 0.5
PROMISED_KILOBYTES = 100
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]  # fmt: skip


@contextmanager
def fleet_up(home: Path) -> Iterator[str]:
    """Run the product on a new data folder; yields its address."""
    argv = [sys.executable, "-m", "fleet_api", "up", "--home", str(home), "--port", str(free_port())]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "ready on " in line:
                yield line.split("ready on ")[1].split()[0]
                return
        raise RuntimeError("fleet up ended before it was ready")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def fill(url: str) -> None:
    """Make a page of pictures."""
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as api:
        for seed in range(PICTURES):
            body = {"prompt": "a red circle on a blue background", "seed": seed, "steps": 2, "width": 256, "height": 256}
            api.post("/api/fleet/generate", json=body).raise_for_status()


def load(browser: Browser, url: str) -> tuple[float, float, int]:
    """Load a page once, with nothing cached; return seconds to the first paint, bytes without pictures, and requests."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    kinds: dict[str, str] = {}
    weights: dict[str, float] = {}
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: event["type"]}))
    devtools.on("Network.loadingFinished", lambda event: weights.update({event["requestId"]: event["encodedDataLength"]}))
    page.goto(url)
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length", polling=20)
    time.sleep(1)  # modules, the snapshot
    paint = float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")) / 1000
    context.close()
    own = {request: weight for request, weight in weights.items() if kinds.get(request) != "Image"}
    return paint, sum(own.values()), len(own)


def measure(browser: Browser, url: str) -> dict[str, Any]:
    """Load a page several times and take the medians."""
    loads = [load(browser, url) for _ in range(ROUNDS)]
    return {
        "first_paint_seconds": statistics.median(each[0] for each in loads),
        "all_first_paints": [round(each[0], 3) for each in loads],
        "kilobytes": statistics.median(each[1] for each in loads) / 1000,
        "requests": statistics.median(each[2] for each in loads),
    }


def report() -> dict[str, Any]:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, fleet_up(Path(folder) / "home") as url, sync_playwright() as playwright:
        fill(url)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        load(browser, url)  # the browser's own first steps
        found = {"first page": measure(browser, url), "API pages": measure(browser, f"{url}/docs")}
        browser.close()
    for name, figures in found.items():
        print(f"{name:12} first paint {figures['first_paint_seconds']:5.3f} s   {figures['kilobytes']:7.1f} kB without pictures")
    print(f"{'promise':12} first paint {PROMISED_SECONDS:5.3f} s   {PROMISED_KILOBYTES:7.1f} kB")
    return {"rounds": ROUNDS, "pictures": PICTURES, **found}


if __name__ == "__main__":
    RESULTS.write_text(json.dumps(report(), indent=2) + "\n")

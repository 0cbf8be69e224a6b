"""The gallery's first, deep and searched pages with 1,000, 20,000 and 200,000 outputs, and thumbnails a second."""

from __future__ import annotations

import asyncio
import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.http_client import Connection
from benchmarks.servers import control_plane
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.outputs import repository
from fleet_api.outputs.files import OutputFiles
from fleet_api.outputs.models import Output

STORED = (1_000, 20_000, 200_000)
CHUNK = 10_000
SAMPLES = 30
PROMISED_MS = 50.0
NOUNS = ("fox", "harbour", "castle", "circle", "lantern", "forest", "robot", "teapot", "glacier", "violin")
ADJECTIVES = ("red", "blue", "ancient", "misty", "golden", "tiny", "neon", "quiet", "stormy", "paper")
PAGES = {
    "first": "limit=50",
    "deep, by cursor": "limit=50&cursor={middle}",
    "deep, by offset": "limit=50&offset={middle}",
    "a common word": "limit=50&q=fox",
    "two words": "limit=50&q=misty+castle",
    "no match": "limit=50&q=unheard",
    "a model": "limit=50&model=model-3",
    "node and word": "limit=50&node=agx1&q=red",
    "a rare LoRA": "limit=50&lora=rare",
    "a day": "limit=50&since=2026-01-02T00:00:00Z&until=2026-01-03T00:00:00Z",
    "all days": "limit=50&since=2025-01-01T00:00:00Z",
    "starred": "limit=50&starred=true",
}
BEGIN = 1_767_225_600.0  # 2026-01-01


def _output(seq: int, total: int) -> Output:
    name = f"image_{seq:08}.png"
    prompt = f"{random.choice(ADJECTIVES)} {random.choice(NOUNS)} beside a {random.choice(ADJECTIVES)} {random.choice(NOUNS)}, number {seq}"
    return Output(
        filename=name, job_id=name, node_id=f"agx{seq % 12}", prompt=prompt, model=f"model-{seq % 7}", seed=seq, width=1024, height=1024,
        bytes=1_500_000, sha256="0" * 64, created_at=BEGIN + seq * 86_400 * 30 / total, lora="rare" if seq % 5000 == 0 else "",
        starred=seq % 997 == 0, local=seq % 10 == 0, synced_at=BEGIN if seq % 50 else None, seconds=3.1,
        parameters={"prompt": prompt, "negative_prompt": "blurry, bad quality", "width": 1024, "height": 1024, "steps": 20, "seed": seq,
                    "guidance_scale": 7.5, "model": f"model-{seq % 7}", "scheduler": "euler", "generation_time": 3.1},
    )  # fmt: skip


async def _store(home: Path, number: int) -> None:
    db = Database(home / "fleet.db")
    for begin in range(0, number, CHUNK):
        found = [_output(seq, number) for seq in range(begin + 1, min(begin + CHUNK, number) + 1)]
        await db.write(lambda connection, found=found: repository.add_all(connection, found))  # type: ignore[misc]
    await db.close()


async def _pages(port: int, number: int) -> dict[str, float]:
    connection = await Connection("127.0.0.1", port).open()
    paths = {name: f"/api/vision/gallery?{query.format(middle=number // 2)}" for name, query in PAGES.items()}
    median: dict[str, float] = {}
    for name, path in {**paths, "stats": "/api/outputs/stats"}.items():
        times = []
        for _ in range(SAMPLES):
            begun = time.perf_counter()
            status, body = await connection.send(Connection.prepare("GET", path))
            times.append((time.perf_counter() - begun) * 1000)
            if status != 200:
                raise RuntimeError(f"{status}: {body[:200]!r}")
        median[name] = sorted(times)[len(times) // 2]
    connection.close()
    return median


def _thumbnails() -> dict[str, float]:
    found = {}
    for side in (512, 1024):
        with tempfile.TemporaryDirectory() as name:
            files = OutputFiles(Path(name))
            files.prepare()
            buffer = io.BytesIO()
            Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(buffer, "PNG")
            (files.folder / "x.png").write_bytes(buffer.getvalue())
            begun = time.perf_counter()
            for number in range(20):
                files.thumbnail(f"x{number}.png", files.folder / "x.png")
            found[f"{side} px"] = 20 / (time.perf_counter() - begun)
    return found


def report() -> dict[str, Any]:
    """Measure and print."""
    found: dict[str, Any] = {}
    random.seed(1)
    for number in STORED:
        with tempfile.TemporaryDirectory() as name:
            home = Path(name)
            upgrade(home / "fleet.db")
            asyncio.run(_store(home, number))
            with control_plane(home) as server:
                found[f"{number:,}"] = asyncio.run(_pages(server.port, number))
    print(f"{'gallery page of 50, median ms':32}" + "".join(f"{name:>10}" for name in found))
    for row in [*PAGES, "stats"]:
        print(f"  {row:30}" + "".join(f"{each[row]:10.1f}" for each in found.values()))
    worst = max(value for row, value in found[f"{STORED[-1]:,}"].items() if row != "stats")
    print(f"  the slowest page with {STORED[-1]:,}: {worst:.1f} ms (promised: under {PROMISED_MS:.0f})")
    thumbnails = _thumbnails()
    print("  thumbnails/s, one thread: " + ", ".join(f"{rate:.0f} of {side}" for side, rate in thumbnails.items()))
    return {"median_ms": found, "thumbnails_per_second": thumbnails}


if __name__ == "__main__":
    report()

"""The first page in a real Chromium, served by the real product with its built-in model. Nothing but loopback can be reached."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.browser.visit import Visit
from tests.support.product import Product, running

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip


def chromium() -> str:
    """Return the browser's path, or skip the test."""
    found = os.environ.get("FLEET_TEST_CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        assert "FLEET_REQUIRE_BROWSER" not in os.environ, "there is no Chromium"
        pytest.skip("there is no Chromium: apt-get install --no-install-recommends chromium fonts-dejavu-core")
    return found


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    chromium()  # without it there is nothing to start for
    with running(tmp_path_factory.mktemp("browser") / "home") as started:
        yield started


@pytest.fixture(scope="session")
def api(product: Product) -> Iterator[httpx.Client]:
    with product.client() as client:
        yield client


@pytest.fixture(scope="module")  # not longer: its event loop would be in the way of tests that bring their own
def browser() -> Iterator[Any]:
    path = chromium()
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with playwright_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, product: Product) -> Iterator[Callable[..., Visit]]:
    """Open visits; afterwards none of them may have complained or asked anybody else for anything."""
    visits: list[Visit] = []

    def start(**options: Any) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        visits.append(Visit(context, product.url))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert each.foreign == []
        assert each.complaints == []
        assert all(urlsplit(address).netloc == urlsplit(product.url).netloc for address in each.sockets)


@pytest.fixture
def make(api: httpx.Client) -> Callable[..., dict[str, Any]]:
    """Make a picture by the API and return its job."""

    def made(prompt: str, **more: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "width": 256, "height": 256, "steps": 4, **more}
        answer = api.post("/api/fleet/generate", json=body)
        assert answer.status_code == 200, answer.text
        job_id = answer.headers["x-filename"][len("image_") : -len(".png")]
        return dict(api.get(f"/api/queue/jobs/{job_id}").json())

    return made


@pytest.fixture
def queue(api: httpx.Client) -> Iterator[Callable[..., str]]:
    """Queue a job by the API; what is left of them is cancelled afterwards."""

    def queued(prompt: str, **more: Any) -> str:
        answer = api.post("/api/vision/generate", json={"prompt": prompt, "width": 256, "height": 256, "steps": 150, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    yield queued
    api.post("/api/vision/jobs/stop-all")


@pytest.fixture
def hold(product: Product, api: httpx.Client, queue: Callable[..., str]) -> Iterator[Callable[..., None]]:
    """``hold(job_id, beyond=5)``: stop the engine in the midst of a job, beyond 5 %; nothing moves until the test has ended."""
    held: list[psutil.Process] = []

    def hold_at(job_id: str, beyond: float = 0) -> None:
        deadline = time.monotonic() + 15
        while (job := api.get(f"/api/vision/jobs/{job_id}").json()).get("progress", -1) <= beyond:
            assert job["status"] in ("queued", "processing"), job
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        held.append(product.children()["engine"])
        held[-1].suspend()
        time.sleep(0.5)  # what the engine said before is told by the agent's next beat

    yield hold_at
    for engine in held:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that did not obey a cancel was ended
            engine.resume()

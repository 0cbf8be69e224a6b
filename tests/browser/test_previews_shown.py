"""A picture in the making is seen where its job is shown, and gives way to the finished one in the same place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.browser.visit import Visit
from tests.support.product import Product

pytestmark = pytest.mark.browser

ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}
LARGE = {"width": 2048, "height": 2048}
"""Slow enough for several previews, of which there are two a second at most."""

WATCH_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => list.getEntries().forEach((each) => window.shifts.push(
    ...each.sources.map((source) => source.node?.className ?? source.node?.parentElement?.className ?? "")))
  ).observe({ type: "layout-shift" });
}"""
NOTE_PREVIEWS = """() => {
  window.previews = new Set();
  new MutationObserver(() => document.querySelectorAll("#jobs .preview[src]").forEach((each) => window.previews.add(each.src)))
    .observe(document.querySelector("#jobs"), { subtree: true, childList: true });
}"""
BROKEN = "[...document.images].filter((each) => each.checkVisibility() && each.complete && !each.naturalWidth).length"


def preview_of(api: httpx.Client, job_id: str) -> int:
    """Return the step of a job's first preview, once it has one."""
    deadline = time.monotonic() + 15
    while "preview" not in (job := api.get(f"/api/queue/jobs/{job_id}").json()):
        assert job["status"] in ("queued", "processing"), job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return int(job["preview"])


def box(page: Any, selector: str) -> dict[str, float]:
    return dict(page.locator(selector).bounding_box())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_queue_shows_how_far_a_picture_is(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], product: Product, scheme: str
) -> None:
    seen = visit(color_scheme=scheme)
    page = seen.open()
    job = queue("a red circle on a blue background", preview_every=1, **LARGE)
    row = f'.job[data-key="{job}"]'
    page.wait_for_selector(f'{row}[data-state="processing"]')
    page.evaluate(WATCH_SHIFTS)
    page.evaluate(NOTE_PREVIEWS)
    before = box(page, row)
    page.wait_for_selector(f"{row} .preview[src]")
    hold(job)
    assert page.locator(f"{row} .preview").get_attribute("src").startswith(f"/api/queue/jobs/{job}/preview?step=")
    assert page.locator(f"{row} .preview").get_attribute("alt") == "Preview: a red circle on a blue background"
    assert page.locator(f"{row} .preview").evaluate("(each) => each.naturalWidth") >= 128
    assert box(page, row)["height"] == before["height"]
    assert [each for each in page.evaluate("window.shifts") if "job" in each] == []
    assert page.evaluate(BROKEN) == 0
    later = visit(color_scheme=scheme).open()
    later.wait_for_selector(f"{row} .preview[src]")
    product.children()["engine"].resume()
    seen.settle("window.previews.size > 1")
    page.wait_for_selector(row, state="detached")


def test_a_page_that_nobody_sees_loads_none_and_then_catches_up(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], api: httpx.Client
) -> None:
    seen = visit()
    page = seen.open()
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    job = queue("a red square on a white background", preview_every=1, **LARGE)
    row = f'.job[data-key="{job}"]'
    preview_of(api, job)
    hold(job)
    seen.settle(f"document.querySelector('{row} progress')?.value > 0")
    assert not any("/preview?" in address for address in seen.requests)
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector(f"{row} .preview[src]")


def test_without_previews_there_is_no_place_for_one(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None]
) -> None:
    job = queue("a red star on a blue background")
    hold(job)
    seen = visit()
    page = seen.open()
    page.wait_for_selector(f'.job[data-key="{job}"][data-state="processing"]')
    seen.settle(f"document.querySelector('.job[data-key=\"{job}\"] progress').value > 0")
    assert not page.locator(f'.job[data-key="{job}"] .job-frame').is_visible()
    assert not any("/preview?" in address for address in seen.requests)
    assert page.evaluate(BROKEN) == 0


def test_the_place_of_a_preview_is_painted_by_the_server(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], api: httpx.Client
) -> None:
    job = queue("a blue cross on a white background", preview_every=1, **LARGE)
    preview_of(api, job)
    hold(job)
    page = visit(java_script_enabled=False).page
    page.goto(str(api.base_url))
    assert page.locator(f'.job[data-key="{job}"] .job-frame').is_visible()
    assert not page.locator(f'.job[data-key="{job}"] .preview').is_visible()


def ask(page: Any, prompt: str) -> None:
    """Ask for a picture on the page that takes a while."""
    page.fill("#prompt", prompt)
    page.locator("#options > summary").click()
    for name, value in (*LARGE.items(), ("steps", 150)):
        page.fill(f"[name={name}]", str(value))
    page.locator("#composer [type=submit]").click()


def test_the_picture_takes_the_place_of_its_preview(visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    ask(page, "a green ring on a black background")
    page.wait_for_selector('.result[data-state="processing"]')
    before = box(page, ".result .frame")
    page.evaluate(WATCH_SHIFTS)
    page.wait_for_selector(".result .preview[src]")
    assert page.locator(".result .preview").get_attribute("alt") == "Preview: a green ring on a black background"
    assert box(page, ".result .frame") == before
    assert page.inner_text('.result [data-part="state"]').split("%")[0].isdigit()
    page.wait_for_selector('.result[data-state="completed"]', timeout=60_000)
    seen.settle("document.querySelector('.result a img').naturalWidth === 2048")
    page.wait_for_selector(".result .preview", state="hidden")
    assert page.locator(".result .preview").get_attribute("src") is None
    assert box(page, ".result .frame") == before
    assert [each for each in page.evaluate("window.shifts") if "result" in each or "frame" in each] == []
    assert page.evaluate(BROKEN) == 0


def test_a_cancelled_picture_keeps_no_preview(visit: Callable[..., Visit], hold: Callable[..., None]) -> None:
    seen = visit()
    page = seen.open()
    ask(page, "a pink heart on a black background")
    page.wait_for_selector(".result .preview[src]")
    hold(page.locator(".result").get_attribute("data-key"))
    page.locator(".result [data-action=close]").click()
    page.wait_for_selector('.result[data-state="cancelled"]')
    assert not page.locator(".result .preview").is_visible()
    assert page.inner_text('.result [data-part="state"]') == "Cancelled"


def test_who_wants_none_asks_for_none(visit: Callable[..., Visit], api: httpx.Client) -> None:
    seen = visit()
    page = seen.open()
    for wanted in (True, False):
        page.fill("#prompt", f"previews: {wanted}")
        page.evaluate("document.querySelector('#options').open = true")
        page.locator("[name=previews]").set_checked(wanted)
        page.fill("[name=steps]", "1")
        page.locator("#composer [type=submit]").click()
        page.wait_for_selector(f'.result[data-state="completed"] >> text=previews: {wanted}')
        [job] = api.get("/api/vision/jobs?limit=1").json()["jobs"]
        assert job["payload"].get("preview_every") == (1 if wanted else None)


def test_a_viewer_sees_previews_with_the_session_and_nobody_without(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], api: httpx.Client
) -> None:
    job = queue("a yellow square on a white background", preview_every=1, **LARGE)
    preview_of(api, job)
    hold(job)
    assert api.get(f"/api/queue/jobs/{job}/preview", headers=ELSEWHERE).status_code == 401
    key = api.post("/api/keys", json={"name": f"previews-{time.time_ns()}", "role": "viewer"}).json()["key"]
    page = visit(extra_http_headers=ELSEWHERE).page
    page.goto(str(api.base_url))
    page.fill("#key", key)
    page.keyboard.press("Enter")
    page.wait_for_selector(f'.job[data-key="{job}"] .preview[src]')

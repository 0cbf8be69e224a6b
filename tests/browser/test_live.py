"""The page follows the fleet, also through a lost connection, and can be driven by keyboard alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browser.visit import Visit
from tests.support.product import Product

pytestmark = pytest.mark.browser


def test_a_job_queued_elsewhere_appears_moves_and_can_be_cancelled(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], api: httpx.Client
) -> None:
    seen = visit()
    page = seen.open()
    first = queue("a red triangle on a white background")
    second = queue("a blue triangle on a white background")
    hold(first, beyond=5)
    page.wait_for_selector(f'.job[data-key="{first}"][data-state="processing"]')
    page.wait_for_selector(f'.job[data-key="{second}"] >> text=position 1')
    seen.settle(f"document.querySelector('.job[data-key=\"{first}\"] progress').value > 5")
    assert page.inner_text("#running") == "1"
    assert page.inner_text("#waiting") == "1"
    page.wait_for_selector('.node[data-status="busy"]')
    page.locator(f'.job[data-key="{second}"] [data-action=cancel]').click()
    page.wait_for_selector(f'.job[data-key="{second}"]', state="detached")
    assert api.get(f"/api/vision/jobs/{second}").json()["status"] == "cancelled"
    page.get_by_role("button", name="Cancel: a red triangle on a white background").click()
    page.wait_for_selector(f'.job[data-key="{first}"]', state="detached")
    seen.settle("document.querySelector('#running').textContent === '0'")
    assert page.locator("text=Nothing waits and nothing runs.").is_visible()


def test_a_long_queue_shows_its_head_and_counts_the_rest(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], api: httpx.Client
) -> None:
    body = {"jobs": [{"job_type": "image_gen", "payload": {"prompt": f"circle {n}", "steps": 150}} for n in range(40)]}
    hold(queue("keeps the node busy"))
    assert api.post("/api/queue/jobs/batch", json=body).status_code == 201
    seen = visit()
    page = seen.open()
    assert page.inner_text("#queue-more").startswith("and ")
    urgent = api.post("/api/vision/generate", json={"prompt": "urgent", "priority": 10, "steps": 150}).json()["job_id"]
    page.wait_for_selector(f'.job[data-key="{urgent}"]')
    places = page.evaluate('[...document.querySelectorAll(\'.job[data-state="queued"] [data-part="place"]\')].map((e) => e.textContent)')
    assert [place.split(" · ")[0] for place in places] == [f"position {n}" for n in range(1, len(places) + 1)]
    api.post("/api/vision/jobs/stop-all")
    seen.settle("document.querySelectorAll('.job').length === 0")
    assert page.inner_text("#queue-more") == ""


def test_a_result_is_cancelled_where_it_was_asked_for(visit: Callable[..., Visit], hold: Callable[..., None], api: httpx.Client) -> None:
    seen = visit()
    page = seen.open()
    page.fill("#prompt", "a slow circle")
    page.locator("#options > summary").click()
    page.fill("[name=steps]", "150")
    page.fill("[name=count]", "2")
    page.locator("#composer [type=submit]").click()
    hold(page.wait_for_selector('.result[data-state="processing"]').get_attribute("data-key"))
    assert seen.count(".result") == 2
    for _ in range(2):
        page.locator('.result:not([data-state="cancelled"]) [data-action=close]').first.click()
        page.wait_for_timeout(150)
    seen.settle("document.querySelectorAll('.result[data-state=\"cancelled\"]').length === 2")
    page.locator(".result [data-action=close]").first.click()
    assert seen.count(".result") == 1
    assert api.get("/api/queue/stats").json()["processing"] == 0


def test_connection_lost_and_back(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None], make: Callable[..., Any], product: Product
) -> None:
    seen = visit()
    page = seen.open()
    waiting = [queue("before the break", steps=150) for _ in range(4)]
    page.wait_for_selector(f'.job[data-key="{waiting[-1]}"]')
    page.fill("#prompt", "kept through the break")
    product.children()["api"].kill()
    page.wait_for_selector("#connection >> text=Connection lost, trying again")
    seen.settle("!document.body.classList.contains('stale')", timeout=30_000)
    assert page.inner_text("#connection") == ""
    with product.client() as api:
        api.post("/api/vision/jobs/stop-all")
        seen.settle("document.querySelectorAll('.job').length === 0")
        make("after the break", steps=1)
        seen.settle("document.querySelector('.picture').textContent.includes('after the break')")
        after = queue("live again")
        hold(after)
        page.wait_for_selector(f'.job[data-key="{after}"][data-state="processing"]')
        page.wait_for_selector('.node:not([data-status="offline"])')
    assert page.input_value("#prompt") == "kept through the break"
    seen.complaints.clear()  # Chromium logs each request that nobody answered


def test_events_missed_while_away_are_in_the_snapshot(
    visit: Callable[..., Visit], make: Callable[..., Any], queue: Callable[..., str]
) -> None:
    seen = visit()
    page = seen.open()
    before = queue("gone when it is back")
    page.wait_for_selector(f'.job[data-key="{before}"]')
    seen.context.set_offline(True)
    page.wait_for_selector("#connection:not(:empty)")
    httpx.post(f"{seen.url}/api/vision/jobs/{before}/cancel", trust_env=False)
    make("made while it was away", steps=1)
    seen.context.set_offline(False)
    seen.settle("document.querySelector('#connection').textContent === ''")
    seen.settle("document.querySelector('.picture').textContent.includes('made while it was away')")
    assert page.locator(f'.job[data-key="{before}"]').count() == 0
    seen.complaints.clear()


def test_a_reader_that_was_too_slow_connects_again_and_reads_anew(
    visit: Callable[..., Visit], queue: Callable[..., str], hold: Callable[..., None]
) -> None:
    seen = visit()
    sockets: list[Any] = []

    def connect(socket: Any) -> None:
        sockets.append(socket)
        socket.connect_to_server()

    seen.page.route_web_socket("**/ws*", connect)
    page = seen.open()
    read = len(seen.requests)
    page.evaluate(  # it may be back before anybody looks: what the line said is kept
        """() => { window.said = [];
        const line = document.querySelector('#connection');
        const note = () => window.said.push(line.textContent);
        new MutationObserver(note).observe(line, {childList: true, characterData: true, subtree: true}); }"""
    )
    sockets[0].close(code=1013, reason="too slow")
    deadline = time.monotonic() + 15
    while len(sockets) < 2:
        assert time.monotonic() < deadline, "it did not connect again"
        page.wait_for_timeout(20)
    seen.settle("window.said.some((text) => text !== '') && document.querySelector('#connection').textContent === ''")
    seen.settle("window.performance.getEntriesByType('resource').filter((each) => each.name.includes('/api/nodes')).length > 1")
    assert len(sockets) == 2
    assert {"/api/nodes", "/api/vision/gallery", "/api/vision/queue"} <= {urlsplit(each).path for each in seen.requests[read:]}
    job = queue("after the second connection")
    hold(job)
    page.wait_for_selector(f'.job[data-key="{job}"][data-state="processing"]')


def test_by_keyboard_alone(visit: Callable[..., Visit], make: Callable[..., Any]) -> None:
    make("a pink circle on a white background")
    seen = visit()
    page = seen.open()
    focused = "(() => { const e = document.activeElement; return e.id || e.name || e.dataset.action || e.tagName; })()"

    def tab_to(name: str, key: str = "Tab") -> None:
        for _ in range(60):
            page.keyboard.press(key)
            if page.evaluate(focused) == name:
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{name} shows no focus"
                return
        raise AssertionError(f"{name} cannot be reached")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    tab_to("theme")
    tab_to("prompt")
    page.keyboard.type("a green ring on a black background")
    tab_to("count")
    tab_to("SUMMARY")
    page.keyboard.press("Enter")
    tab_to("steps")
    page.keyboard.press("Control+A")
    page.keyboard.type("5")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector('.result[data-state="completed"]')
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.picture a')"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    tab_to("again")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert page.evaluate("document.activeElement.matches('.picture a')"), "focus goes back to where it came from"

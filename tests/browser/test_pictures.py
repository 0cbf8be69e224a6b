"""From a prompt to a picture, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.browser.visit import Visit

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_prompt_becomes_a_picture(visit: Callable[..., Visit], api: httpx.Client) -> None:
    seen = visit()
    page = seen.open()
    pictures = api.get("/api/vision/gallery").json()["total"]
    page.fill("#prompt", "a yellow star on a purple background")
    page.locator("#options > summary").click()
    page.fill("[name=steps]", "60")
    page.fill("[name=seed]", "9223372036854775807")
    page.fill("[name=negative_prompt]", "blurry")
    page.select_option("[name=scheduler]", "dpm++_2m")
    page.get_by_text("Wide", exact=True).click(force=True)
    assert page.input_value("[name=width]") == "1344"
    page.evaluate("""() => {
      window.seenProgress = [];
      new MutationObserver(() => window.seenProgress.push(document.querySelector('.result progress')?.value ?? 0))
        .observe(document.querySelector('#results'), { subtree: true, childList: true, attributes: true, characterData: true });
      window.news = [];
      new MutationObserver(() => window.news.push(document.querySelector('#news').textContent))
        .observe(document.querySelector('#news'), { childList: true, characterData: true, subtree: true });
    }""")
    page.locator("#prompt").press("Control+Enter")
    page.wait_for_selector('.result[data-state="completed"] a img[src]')
    seen.settle("document.querySelector('.result a img').naturalWidth === 1344")
    steps = page.evaluate("window.seenProgress")
    assert steps == sorted(steps)
    assert any(0 < step < 100 for step in steps)
    assert "The picture is ready." in page.evaluate("window.news")
    seen.settle(f"document.querySelector('#gallery-total').textContent.startsWith('{pictures + 1} ')")
    [job] = api.get("/api/vision/jobs?limit=1").json()["jobs"]
    told = {key: job["payload"][key] for key in ("seed", "steps", "negative_prompt", "scheduler", "width", "height", "model")}
    assert told == {
        "seed": 2**63 - 1, "steps": 60, "negative_prompt": "blurry", "scheduler": "dpm++_2m", "width": 1344, "height": 768,
        "model": "fleet-shapes",
    }  # fmt: skip
    assert "guidance_scale" not in job["payload"], "left empty, it is the model's own"


def test_the_apis_sentence_is_shown(visit: Callable[..., Visit]) -> None:
    seen = visit()
    page = seen.open()
    page.fill("#prompt", "a red circle")
    page.locator("#options > summary").click()
    page.fill("[name=width]", "100")
    page.locator("#composer [type=submit]").click()
    page.wait_for_selector("#composer-error:not(:empty)")
    assert "width" in page.inner_text("#composer-error")
    assert "100" in page.inner_text("#composer-error")
    assert page.locator("#composer [type=submit]").is_enabled()
    seen.complaints = [each for each in seen.complaints if "400" not in each]  # Chromium itself logs a refused request


def test_gallery_detail_and_the_same_settings_again(visit: Callable[..., Visit], make: Callable[..., Any]) -> None:
    made = make("a blue heart on a white background", seed=2**62 + 1, negative_prompt="grey", guidance_scale=1.5, scheduler="euler_a")
    seen = visit()
    page = seen.open()
    page.locator(".picture a").first.click()
    page.wait_for_selector("dialog[open] dt >> text=Sampler")
    text = page.inner_text("dialog")
    for value in ("a blue heart on a white background", str(2**62 + 1), "fleet-shapes", "256 × 256", "euler_a", "grey", "1.5"):
        assert value in text
    assert made["result"]["node_id"] in text
    with page.expect_download() as download:
        page.locator("dialog [data-action=download]").click()
    assert download.value.suggested_filename.endswith(".png")
    page.locator("dialog [data-action=again]").click()
    assert page.locator("dialog[open]").count() == 0
    names = ("prompt", "seed", "negative_prompt", "guidance_scale", "scheduler", "width", "steps", "model", "count")
    assert [page.input_value(f"[name={name}]") for name in names] == [
        "a blue heart on a white background", str(2**62 + 1), "grey", "1.5", "euler_a", "256", "4", "fleet-shapes", "1",
    ]  # fmt: skip
    page.locator("#composer [type=submit]").click()
    page.wait_for_selector('.result[data-state="completed"]')
    page.locator(".result a").click()
    assert str(2**62 + 1) in page.inner_text("dialog dl")


def test_arrows_go_to_the_next_picture_and_a_delete_can_be_undone(
    visit: Callable[..., Visit], make: Callable[..., Any], api: httpx.Client
) -> None:
    first, second = make("a red ring on a white background"), make("a red cross on a white background")
    seen = visit()
    page = seen.open()
    page.locator(".picture a").first.click()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#detail-title >> text=a red ring")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#detail-title >> text=a red cross")
    page.locator("[data-action=delete]").click()
    page.wait_for_selector("[data-action=restore]:visible")
    assert "In the bin" in page.inner_text("dialog")
    assert api.get(second["result"]["image_url"]).status_code == 404
    assert "a red ring" in page.locator(".picture").first.inner_text()
    page.locator("[data-action=restore]").click()
    page.wait_for_selector("[data-action=delete]:visible")
    assert api.get(second["result"]["image_url"]).status_code == 200
    seen.settle("document.querySelector('.picture').textContent.includes('a red cross')")
    page.locator("[data-action=delete]").click()
    page.wait_for_selector("[data-action=restore]:visible")
    page.locator("[data-action=close]").click()
    page.locator("#gallery-search [name=deleted]").check()
    seen.settle("document.querySelector('.picture')?.textContent.includes('a red cross')")
    page.locator(".picture a").first.click()
    assert page.locator("[data-action=restore]").is_visible()
    assert not page.locator("[data-action=download]").is_visible()
    assert api.get(first["result"]["image_url"]).status_code == 200


def test_the_gallery_is_searched_and_starred(visit: Callable[..., Visit], make: Callable[..., Any]) -> None:
    make("a yellow triangle on a white background")
    make("a green square on a white background")
    seen = visit()
    page = seen.open()
    shown = seen.count(".picture")
    assert shown >= 2
    page.locator("#gallery-search [name=q]").fill("yellow tri")
    seen.settle("[...document.querySelectorAll('.picture')].every((each) => each.textContent.includes('yellow triangle'))")
    assert page.inner_text("#gallery-total") == "1 picture"
    page.locator(".picture a").first.click()
    page.locator("[data-action=star]").click()
    page.wait_for_selector("[data-action=star][aria-pressed=true]")
    page.locator("[data-action=close]").click()
    assert page.locator(".picture").first.get_attribute("data-starred") == "true"
    page.locator("#gallery-search [name=q]").fill("")
    page.locator("#gallery-search [name=starred]").check()
    seen.settle("document.querySelector('#gallery-total').textContent === '1 picture'")
    page.locator("#gallery-search [name=q]").fill("nothing like it")
    page.wait_for_selector("text=No picture fits.")
    assert seen.count(".picture") == 0
    page.locator("#gallery-search [name=q]").fill("")
    page.locator("#gallery-search [name=starred]").uncheck()
    seen.settle(f"document.querySelectorAll('.picture').length === {shown}")


def test_more_pictures_come_a_page_at_a_time(visit: Callable[..., Visit], make: Callable[..., Any]) -> None:
    for number in range(28):
        make("a white circle on a black background", steps=1, width=64, height=64, seed=number)
    seen = visit()
    page = seen.open()
    assert seen.count(".picture") == 24
    page.locator("#more").click()
    seen.settle("document.querySelectorAll('.picture').length >= 28")
    keys = page.evaluate("[...document.querySelectorAll('.picture')].map((each) => each.dataset.key)")
    assert len(set(keys)) == len(keys)
    make("a newcomer", steps=1)
    seen.settle("document.querySelector('.picture').textContent.includes('a newcomer')")
    assert seen.count(".picture") == len(keys) + 1


def test_a_hostile_prompt_is_text(visit: Callable[..., Visit], make: Callable[..., Any], queue: Callable[..., str]) -> None:
    breakout = '"></template></script><script>alert(2)</script>{{ 7*7 }}'
    make(breakout)
    seen = visit()
    dialogs: list[str] = []
    seen.page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page = seen.open()
    assert breakout in page.locator(".picture").first.inner_text()
    page.fill("#prompt", HOSTILE)
    page.locator("#prompt").press("Control+Enter")
    page.wait_for_selector('.result[data-state="completed"]')
    seen.settle("document.querySelector('.picture').textContent.includes('onerror')")
    queue(HOSTILE)
    page.wait_for_selector(".job >> text=onerror")
    page.locator(".picture a").first.click()
    page.wait_for_selector("dialog[open] dt >> text=Sampler")
    assert page.inner_text("#detail-title") == HOSTILE
    page.reload()
    assert HOSTILE in page.locator(".picture").first.inner_text()
    assert dialogs == []
    assert page.locator('img[src="x"]').count() == 0
    assert page.locator("script:not([src])").count() == 0

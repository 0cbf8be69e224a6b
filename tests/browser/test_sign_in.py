"""Who is not on this machine signs in with a key. A forwarding header makes the control plane take the browser for such a one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fleet_api.settings import Settings
from tests.browser.visit import Visit
from tests.support.product import Product

pytestmark = pytest.mark.browser

ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}


@pytest.fixture
def key(api: httpx.Client) -> Callable[[str], dict[str, str]]:
    """Make a key of a role."""

    def made(role: str) -> dict[str, str]:
        answer = api.post("/api/keys", json={"name": f"{role}-{uuid.uuid4().hex[:8]}", "role": role})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return made


def sign_in(seen: Visit, secret: str) -> Any:
    page = seen.page
    page.goto(seen.url)
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type(secret)
    with page.expect_response("**/api/vision/gallery*"):
        page.keyboard.press("Enter")
    page.wait_for_selector("#sign-out")
    return page


def test_a_wrong_key_is_told_in_the_apis_words(visit: Callable[..., Visit]) -> None:
    seen = visit(extra_http_headers=ELSEWHERE)
    page = seen.page
    page.goto(seen.url)
    page.keyboard.type("wrong")
    with page.expect_response("**/api/session") as refused:
        page.keyboard.press("Enter")
    page.wait_for_selector("#sign-in-error:not(:empty)")
    assert refused.value.status == 401
    assert page.inner_text("#sign-in-error") == refused.value.json()["detail"]
    assert page.input_value("#key") == "wrong"
    seen.complaints = [each for each in seen.complaints if "401" not in each]  # Chromium itself logs a refused request


def test_a_viewer_looks_and_changes_nothing(
    visit: Callable[..., Visit],
    key: Callable[[str], dict[str, str]],
    make: Callable[..., Any],
    queue: Callable[..., str],
    hold: Callable[..., None],
) -> None:
    make("a red circle on a blue background")
    job = queue("a red square on a blue background")
    hold(job)
    seen = visit(extra_http_headers=ELSEWHERE)
    page = sign_in(seen, key("viewer")["key"])
    page.wait_for_selector(f'.job[data-key="{job}"][data-state="processing"]')
    assert "role viewer" in page.inner_text("main > .notice")
    for selector in ("#composer", "[data-action=cancel]", "[data-action=delete]", "[data-action=again]"):
        assert seen.count(selector) == 0, selector
    later = queue("comes while the viewer looks")
    page.wait_for_selector(f'.job[data-key="{later}"]')
    page.locator(".picture a").first.click()
    page.wait_for_selector("dialog[open] dt >> text=Sampler")
    assert page.locator("dialog [data-action=download]").is_visible()


def test_an_operator_works_with_the_token_and_signs_out(visit: Callable[..., Visit], key: Callable[[str], dict[str, str]]) -> None:
    seen = visit(extra_http_headers=ELSEWHERE)
    page = sign_in(seen, key("operator")["key"])
    tokens: dict[str, str | None] = {}
    page.on("request", lambda request: tokens.update({request.method: request.headers.get("x-csrf-token")}))
    page.fill("#prompt", "a pink heart on a black background")
    page.locator("#prompt").press("Control+Enter")
    page.wait_for_selector('.result[data-state="completed"]')
    page.locator(".picture a").first.click()
    page.locator("[data-action=delete]").click()
    page.wait_for_selector("[data-action=restore]:visible")
    page.locator("dialog [data-action=close]").click()
    page.wait_for_selector("dialog:not([open])", state="attached")
    assert tokens["POST"]
    assert tokens["POST"] == tokens["DELETE"]
    assert tokens["GET"] is None
    assert seen.complaints == []
    page.locator("#sign-out").click()
    page.wait_for_selector("#sign-in")
    # what was asked as the session ended: Chromium itself logs that
    seen.complaints[:] = [each for each in seen.complaints if "401" not in each]
    assert seen.context.cookies() == []


def test_a_revoked_key_leads_back_to_the_sign_in(
    visit: Callable[..., Visit], key: Callable[[str], dict[str, str]], api: httpx.Client
) -> None:
    seen = visit(extra_http_headers=ELSEWHERE)
    made = key("viewer")
    page = sign_in(seen, made["key"])
    assert api.delete(f"/api/keys/{made['name']}").status_code == 200
    page.wait_for_selector("#sign-in")
    seen.complaints.clear()  # Chromium itself logs refused requests


def test_a_left_over_cookie_does_not_lock_this_machine_out(visit: Callable[..., Visit], product: Product) -> None:
    seen = visit()
    seen.context.add_cookies([{"name": Settings(home=product.home).cookie, "value": "of-another-day", "url": seen.url}])
    seen.open()
    assert seen.count("#composer") == 1
    assert seen.context.cookies() == []

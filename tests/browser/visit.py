"""A page in the browser and what it did."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error("CSP", event.violatedDirective, event.blockedURI));
"""


class Visit:
    """A page and what it did: requests, sockets, complaints."""

    def __init__(self, context: Any, url: str) -> None:
        self.url = url
        self.requests: list[str] = []
        self.sockets: list[str] = []
        self.foreign: list[str] = []
        self.complaints: list[str] = []
        self.context = context
        context.add_init_script(TELL_VIOLATIONS)
        context.route("**/*", self._let_through)
        self.page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _let_through(self, route: Any) -> None:
        address = route.request.url
        self.requests.append(address)
        if urlsplit(address).netloc == urlsplit(self.url).netloc or address.startswith("blob:"):
            route.continue_()
        else:
            self.foreign.append(address)
            route.abort()

    def _heard(self, message: Any) -> None:
        ended = "404" in message.text and urlsplit(message.location["url"]).path.endswith("/preview")
        if message.type in ("error", "warning") and not ended:  # a job may end while its preview is asked for: Chromium itself logs that
            self.complaints.append(message.text)

    def open(self) -> Any:
        """Load the page and wait until it is live."""
        with self.page.expect_response("**/api/vision/gallery*"):
            self.page.goto(self.url)
        return self.page

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())

    def settle(self, condition: str, timeout: float = 15_000) -> None:
        """Wait until a JavaScript expression is true; one that reads what the page does not show yet is not true yet."""
        # A string given to wait_for_function would be eval'd in the page, which its policy forbids; polled from outside it is not.
        patient = (
            f"() => {{ try {{ return ({condition}); }} catch (error) {{ if (error instanceof TypeError) return false; throw error; }} }}"
        )
        self.page.wait_for_function(patient, timeout=timeout, polling=50)

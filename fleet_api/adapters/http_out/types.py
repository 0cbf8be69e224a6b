"""What is asked of a way out over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class NotReached(Exception):
    """There is no answer; the message is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said: its status, and its ``Retry-After`` as it sent it."""

    status: int
    retry_after: str | None = None


class AddressRules(Protocol):
    """Which addresses may be called."""

    @property
    def closed(self) -> bool:
        """Whether none may."""
        ...

    def check(self, text: str, port: int) -> None:
        """Raise ValueError, with the rule that is broken, unless this IP address and port may be called."""
        ...


class HttpOut(Protocol):
    """Sends one request to one address."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a body once, to addresses that were checked, and follow no redirect. Raises NotReached."""
        ...

"""A way out that leads nowhere: a test says what each receiver answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet_api.adapters.http_out.types import Answer, NotReached


@dataclass
class FakeHttpOut:
    """``answers`` are given one after the other, the last for ever; a text is why nobody was reached. ``sent`` is what went out."""

    answers: list[Answer | str] = field(default_factory=lambda: [Answer(204)])
    sent: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See :class:`HttpOut`."""
        self.sent.append((url, dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise NotReached(answer)
        return answer

"""Sends previews on to the control plane: one at a time, and what comes meanwhile is dropped, so that they hold up nothing."""

from __future__ import annotations

import asyncio
from typing import Optional

from gpu_inference.agent.client import ApiClient, ApiError
from gpu_inference.protocol import Held

MOST_BYTES = 64 * 1024


class PreviewSender:
    """``offer`` returns at once, whatever becomes of it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._sending: Optional[asyncio.Task[None]] = None

    def offer(self, held: Held, step: int, jpeg: bytes) -> None:
        """Sends it, unless the one before is still on its way."""
        if len(jpeg) <= MOST_BYTES and (self._sending is None or self._sending.done()):
            self._sending = asyncio.ensure_future(self._send(held, step, jpeg))

    async def _send(self, held: Held, step: int, jpeg: bytes) -> None:
        try:
            await self._client.preview(held, step, jpeg)
        except ApiError:
            return  # the next one may get through; a control plane that does not know previews refuses them all

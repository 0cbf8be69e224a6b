"""Sends previews on to the control plane: of an attempt one at a time; what comes meanwhile is dropped, so that they hold up nothing."""

from __future__ import annotations

import asyncio
from typing import Dict

from gpu_inference.agent.client import ApiClient, ApiError
from gpu_inference.protocol import Held

MOST_BYTES = 64 * 1024


class PreviewSender:
    """``offer`` returns at once, whatever becomes of it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._sending: Dict[str, asyncio.Task[None]] = {}

    def offer(self, held: Held, step: int, jpeg: bytes) -> None:
        """Sends it, unless the attempt's one before is still on its way."""
        self._sending = {job: sending for job, sending in self._sending.items() if not sending.done()}
        if len(jpeg) <= MOST_BYTES and held.job_id not in self._sending:
            self._sending[held.job_id] = asyncio.ensure_future(self._send(held, step, jpeg))

    async def _send(self, held: Held, step: int, jpeg: bytes) -> None:
        try:
            await self._client.preview(held, step, jpeg)
        except ApiError:
            return  # the next one may get through; a control plane that does not know previews refuses them all

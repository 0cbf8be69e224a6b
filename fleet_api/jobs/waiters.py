"""Callers that wait for a job to end, woken by the end itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fleet_api.errors import Unavailable


class EndWaiters:
    """Futures by job id."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Future[None]]:
        """Give a future that is done once the job ends. Look at the job's row after this, or miss an end."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(job_id, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(job_id, None)

    def close(self) -> None:
        """Fail every wait: the control plane is stopping."""
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(Unavailable("The control plane is stopping; try again in a moment."))

    def ended(self, job_id: str) -> None:
        """Wake everyone who waits for this job."""
        for future in self._waiting.get(job_id, ()):
            if not future.done():
                future.set_result(None)

"""A fake agent that takes every job and answers with a picture at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import httpx

from tests.support.agent import CAPABILITIES, FakeAgent

TYPES = ["image_gen", "video_gen", "llm_inference", "transcription", "training", "custom"]


@contextlib.contextmanager
def working(url: str, token: str) -> Iterator[FakeAgent]:
    """Enrol an agent with the API at ``url``, and let it work while the context is open."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        enrolled = http.post("/api/agents/enrol", json={"token": token, "hostname": "busy", "machine_id": "busy"}).json()
        agent = FakeAgent(http, enrolled["node_id"], enrolled["credential"])  # type: ignore[arg-type]
        agent.capabilities = {**CAPABILITIES, "job_types": TYPES}
        agent.lease()
        stop = threading.Event()
        thread = threading.Thread(target=_work, args=(agent, stop), daemon=True)
        thread.start()
        try:
            yield agent
        finally:
            stop.set()
            thread.join(10)


def _work(agent: FakeAgent, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(AssertionError, httpx.HTTPError):  # a job that was cancelled meanwhile
            lease = agent.lease(wait=0.5)["lease"]
            if lease is not None:
                agent.finish(lease)

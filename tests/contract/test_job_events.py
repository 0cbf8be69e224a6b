"""One job as it goes, by server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.jobs import following
from tests.support.agent import FakeAgent

PICTURE = {"prompt": "x"}


def submit(api: TestClient) -> str:
    return str(api.post("/api/vision/generate", json=PICTURE).json()["job_id"])


def parsed(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


class Reader:
    """Reads a job's stream in a thread of its own until it closes."""

    def __init__(self, api: TestClient, job: str) -> None:
        before, bus = api.app.state.fleet.bus.subscribers, api.app.state.fleet.bus
        self.text = ""
        self._thread = threading.Thread(target=self._read, args=(api, job), daemon=True)
        self._thread.start()
        until(lambda: bus.subscribers > before)

    def _read(self, api: TestClient, job: str) -> None:
        self.text = api.get(f"/api/queue/jobs/{job}/events").text

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stream did not close"
        return parsed(self.text)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_is_told_from_its_snapshot_to_its_end(api: TestClient, agent: FakeAgent) -> None:
    job, other = submit(api), submit(api)
    reader = Reader(api, job)
    lease = agent.take()
    for step in (5, 10):
        agent.beat(lease, step)
    agent.finish(lease)
    agent.finish(agent.take())
    told = reader.events()
    assert [name for name, _ in told] == ["snapshot", "state", "progress", "progress", "progress", "ended"]
    assert (told[0][1]["job_id"], told[0][1]["status"], told[0][1]["queue_position"]) == (job, "queued", 1)
    assert told[1][1] == {"job_id": job, "status": "processing", "node_id": "agx0"}
    assert [data["progress"] for name, data in told if name == "progress"] == [0, 25, 50]
    assert (told[-1][1]["status"], told[-1][1]["result"]["node_id"]) == ("completed", "agx0")
    assert other not in reader.text


def test_a_failed_try_and_the_next_are_told(api: TestClient, agent: FakeAgent, clock: Any) -> None:
    job = submit(api)
    reader = Reader(api, job)
    agent.fail(agent.take(), "It broke.")
    clock.advance(2)
    agent.fail(agent.take(), "It broke for good.", retry=False)
    told = reader.events()
    assert [data["status"] for name, data in told if name == "state"] == ["processing", "queued", "processing"]
    assert (told[-1][0], told[-1][1]["status"], told[-1][1]["error"]) == ("ended", "failed", "It broke for good.")


def test_a_cancel_closes_the_stream(api: TestClient, agent: FakeAgent) -> None:
    job = submit(api)
    reader = Reader(api, job)
    assert api.delete(f"/api/queue/jobs/{job}").status_code == 200
    assert [(name, data["status"]) for name, data in reader.events()] == [("snapshot", "queued"), ("ended", "cancelled")]


def test_a_job_that_has_ended_is_a_snapshot_and_its_end(api: TestClient, agent: FakeAgent) -> None:
    job = submit(api)
    agent.finish(agent.take())
    answer = api.get(f"/api/queue/jobs/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert [(name, data["status"]) for name, data in parsed(answer.text)] == [("snapshot", "completed"), ("ended", "completed")]
    assert api.get("/api/queue/jobs/nope/events").status_code == 404


def test_a_quiet_stream_says_that_it_is_there(api: TestClient, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "KEEP_ALIVE_SECONDS", 0.02)
    job = submit(api)
    reader = Reader(api, job)
    time.sleep(0.2)
    agent.finish(agent.take())
    assert reader.events()[-1][0] == "ended"
    assert ": still here\n\n" in reader.text


def test_a_reader_that_falls_behind_or_a_stop_ends_the_stream_without_an_end(api: TestClient, agent: FakeAgent) -> None:
    job = submit(api)
    reader = Reader(api, job)

    async def close() -> None:
        await asyncio.sleep(0)
        api.app.state.fleet.bus.close()

    api.portal.call(close)
    assert [name for name, _ in reader.events()] == ["snapshot"]
    assert api.app.state.fleet.bus.subscribers == 0

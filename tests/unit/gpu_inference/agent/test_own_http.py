"""The agent's own HTTP, with a real agent, engine and sockets."""

from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from tests.support.fake_control_plane import CREDENTIAL, FakeControlPlane
from tests.support.sim_fleet import free_port

Make = Callable[..., Any]
SMALL: dict[str, Any] = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 2, "seed": 7}
KEY = "key-of-the-file-0123456789"


class Door:
    """An agent with its HTTP on, and a client of it."""

    def __init__(self, make: Make, *models: Path, host: str = "127.0.0.1", **settings: Any) -> None:
        self.port = free_port()
        self.agent = make(*models, http=f"{host}:{self.port}", **settings)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)

    def ready(self, seconds: float = 20.0) -> Door:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.http.get("/ready", headers={"Authorization": f"Bearer {CREDENTIAL}"}).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.agent.log)

    def picture(self, **payload: Any) -> httpx.Response:
        return self.http.post("/generate", json={**SMALL, **payload})

    def figures(self) -> dict[str, float]:
        text = self.http.get("/metrics").text
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")}


@pytest.fixture
def door_of(agent_of: Make) -> Callable[..., Door]:
    return lambda *models, **settings: Door(agent_of, *models, **settings)


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_says_how_it_is_and_what_it_serves(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    health = door.http.get("/health").json()
    assert (health["status"], health["engine"]["alive"]) == ("ok", True)
    assert health["version"]
    assert health["uptime_seconds"] > 0
    models = door.http.get("/models").json()
    until(lambda: door.http.get("/models").json()["loaded"] == "tiny")
    assert [model["name"] for model in models["models"]] == ["tiny"]
    assert door.http.get("/models").json()["models"][0]["loaded"] is True
    assert door.http.head("/health").status_code == 200
    missing = door.http.get("/nothing")
    assert (missing.status_code, missing.json()["detail"]) == (
        404, "There is no such page; there are: /health, /ready, /models, /metrics, /generate."
    )  # fmt: skip
    wrong = door.http.get("/generate")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_picture_is_made_and_counted(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    made = door.picture()
    assert (made.status_code, made.headers["content-type"], made.headers["x-seed"], made.headers["x-model"]) == (
        200,
        "image/png",
        "7",
        "tiny",
    )
    assert float(made.headers["x-seconds"]) > 0
    assert Image.open(io.BytesIO(made.content)).size == (64, 64)
    assert door.picture().content == made.content, "the same seed, the same picture"
    job = plane.finished(plane.submit("j1", seed=7, steps=2))
    assert job.output == made.content, "and the same by the queue"
    until(lambda: door.figures().get('fleet_agent_jobs_total{origin="queue",result="completed"}') == 1)
    figures = door.figures()
    assert figures['fleet_agent_jobs_total{origin="door",result="completed"}'] == 2
    assert figures["fleet_agent_steps_total"] == 6
    assert figures["fleet_agent_step_seconds_total"] > 0
    assert figures["fleet_agent_model_loads_total"] == 1
    assert figures["fleet_agent_engine_starts_total"] == 1
    assert figures["fleet_agent_engine_memory_bytes"] > 10e6
    assert figures["fleet_node_memory_bytes"] == pytest.approx(psutil.virtual_memory().total, rel=0.01)
    assert figures['fleet_agent_model_loaded{model="tiny"}'] == 1


BAD: list[tuple[bytes, int, str]] = [
    (b"", 400, "The body is not JSON in UTF-8."),
    (b"{", 400, "The body is not JSON in UTF-8."),
    (b"\xff\xfe", 400, "The body is not JSON in UTF-8."),
    (b"[" * 100_000, 400, "The body is not JSON in UTF-8."),
    (b"[1]", 400, "The body must be a JSON object"),
    (b'{"width": 7}', 422, "The value of width must be a whole number from 64 to 2048 in multiples of 8, and 7 was given."),
    (b'{"steps": NaN}', 422, "The value of steps must be a whole number from 1 to 150, and nan was given."),
    (b'{"model": "sdxl"}', 422, "The model 'sdxl' is not on this node; there are: tiny."),
    (b'{"lora": "night"}', 422, "night"),
    (b'{"prompt": "' + b"x" * 300_000 + b'"}', 413, "The body may have 262144 bytes."),
]


def test_bad_requests_get_one_sentence(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    engine = door.agent.engine()
    for body, status, words in BAD:
        answer = door.http.post("/generate", content=body)
        assert answer.status_code == status, (body[:40], answer.text)
        assert words in answer.json()["detail"]
        assert "Traceback" not in answer.text
    chunked = door.http.post("/generate", content=iter([b"{}"]))
    assert chunked.status_code == 411
    with socket.create_connection(("127.0.0.1", door.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert b"The request is not understood" in raw.recv(4096)
    assert door.picture().status_code == 200
    assert door.agent.engine() == engine


def test_jobs_and_pictures_take_turns(plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path) -> None:
    door = door_of(slow_model).ready()
    plane.wait(lambda: any(lease["want_job"] for lease in plane.leases))
    with ThreadPoolExecutor() as pool:
        local = pool.submit(door.picture, steps=60)
        plane.wait(lambda: plane.beats[-1]["state"] == "serving" and not plane.leases[-1]["want_job"])
        job = plane.submit("j1", model="slow", steps=40)
        time.sleep(0.5)
        assert not local.done()
        assert job.state == "queued", "no job is asked for while a picture is made"
        assert local.result().status_code == 200
        plane.wait(lambda: job.steps and job.steps[-1] >= 2)
        begun = time.monotonic()
        second = door.picture(steps=1)
        assert second.status_code == 200
        plane.finished(job, 2)
        assert time.monotonic() - begun > 0.5, "it waited for its turn"
        assert float(second.headers["x-total-seconds"]) > float(second.headers["x-seconds"])


def test_who_would_wait_too_long_is_told_to_come_again(plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path) -> None:
    door = door_of(slow_model, http_wait=0.5).ready()
    job = plane.submit("j1", model="slow", steps=150)
    plane.wait(lambda: job.steps and job.steps[-1] >= 3)
    answer = door.picture()
    assert (answer.status_code, answer.json()["detail"]) == (503, "The node was busy for 0.5 s.")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    plane.stop(job)


def test_a_caller_that_leaves_stops_its_picture_within_a_second(
    plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path
) -> None:
    door = door_of(slow_model).ready()
    body = json.dumps({**SMALL, "steps": 150}).encode()
    with socket.create_connection(("127.0.0.1", door.port)) as raw:
        head = f"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        plane.wait(lambda: plane.beats[-1]["state"] == "serving")
        time.sleep(0.5)
    left = time.monotonic()
    until(lambda: door.figures().get('fleet_agent_jobs_total{origin="door",result="cancelled"}') == 1)
    assert time.monotonic() - left < 1
    plane.finished(plane.submit("j1", steps=1))


def test_a_job_that_comes_with_a_picture_waits_and_its_cancel_leaves_the_picture_alone(
    plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path
) -> None:
    door = door_of(slow_model, cancel_timeout=1.0).ready()
    engine = door.agent.engine()
    plane.wait(lambda: any(lease["want_job"] for lease in plane.leases))
    plane.grant_seconds = 0.5  # the picture is asked for while the job is on its way
    jobs = []
    with ThreadPoolExecutor() as pool:
        for ending in ("cancelled", "completed"):
            jobs.append(plane.submit(ending, model="slow", steps=10))
            plane.wait(lambda: jobs[-1].state == "leased")
            local = pool.submit(door.picture, steps=60)
            plane.wait(lambda: jobs[-1].phases and jobs[-1].phases[-1] == "waiting")
            if ending == "cancelled":
                plane.stop(jobs[-1])
                plane.wait(lambda: jobs[-1].state == "cancelled")
                assert not local.done(), "the cancel did not wait for the picture"
            assert local.result().status_code == 200
            plane.wait(lambda ending=ending: jobs[-1].state == ending)
    assert (jobs[1].attempt, jobs[1].completions) == (1, 1)
    assert door.agent.engine() == engine


def test_it_works_while_the_control_plane_is_away(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    plane.close()
    for number in range(3):
        assert door.picture(seed=number).status_code == 200
    door.agent.kill()
    door.agent.start()
    assert door.ready().picture().status_code == 200
    plane.open()


def test_an_exposed_door_wants_a_key(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "http.key"
    file.write_text(KEY + "\n")
    door = door_of(tiny_model, host="0.0.0.0", http_key_file=file).ready()
    assert door.http.get("/health").status_code == 200
    for path in ("/ready", "/models", "/metrics", "/nothing"):
        refused = door.http.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    assert door.picture().status_code == 401
    for key, status in ((KEY, 200), (CREDENTIAL, 200), (KEY[:-1], 401), (KEY + "0", 401)):
        assert door.http.post("/generate", json=SMALL, headers={"Authorization": f"Bearer {key}"}).status_code == status
    assert KEY not in door.agent.log


def test_a_page_of_another_site_gets_nothing(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    for headers in ({"Origin": "https://site.invalid"}, {"Host": "rebound.invalid"}, {"X-Forwarded-For": "192.0.2.1"}):
        assert door.http.post("/generate", json=SMALL, headers=headers).status_code == 401, headers


def test_a_port_that_is_taken_is_not_the_agents_end(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    first = door_of(tiny_model).ready()
    second = first.agent.__class__(
        plane.url, first.agent.state.parent, [tiny_model], http=f"127.0.0.1:{first.port}", state_dir=first.agent.state.parent / "two"
    )
    try:
        until(lambda: "cannot listen, and is left out" in second.log)
        plane.wait(lambda: len(plane.enrolments) == 2)
        assert second.process.poll() is None
        assert re.search(r'"reason": "Address already in use', second.log)
    finally:
        second.close()


def test_an_agent_that_drains_is_not_ready_and_ends_the_picture_at_work(
    plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path
) -> None:
    door = door_of(slow_model).ready()
    with ThreadPoolExecutor() as pool:
        local = pool.submit(door.picture, steps=60)
        plane.wait(lambda: plane.beats[-1]["state"] == "serving")
        time.sleep(0.4)
        stopping = pool.submit(door.agent.stop)
        until(lambda: door.http.get("/ready").status_code == 503)
        assert door.http.get("/ready").json()["detail"] == "The agent is stopping."
        assert door.picture().status_code == 503
        assert local.result().status_code == 200
        assert stopping.result() == 0


def test_many_and_slow_callers_do_not_hold_it_up(plane: FakeControlPlane, door_of: Callable[..., Door], tiny_model: Path) -> None:
    door = door_of(tiny_model).ready()
    threads = psutil.Process(door.agent.process.pid).num_threads()
    slow = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(40)]
    for each in slow:
        each.sendall(b"GET /health HTTP/1.1\r\nHost: lo")
    time.sleep(0.5)
    assert psutil.Process(door.agent.process.pid).num_threads() <= threads + 16
    job = plane.finished(plane.submit("j1"))
    assert job.completions == 1
    with httpx.Client(base_url=f"http://127.0.0.1:{door.port}", trust_env=False, timeout=5) as fresh:
        until(lambda: _answers(fresh), 8)
    for each in slow:
        each.close()


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_no_more_than_some_wait(plane: FakeControlPlane, door_of: Callable[..., Door], slow_model: Path) -> None:
    door = door_of(slow_model).ready()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(door.picture(steps=20).status_code)) for _ in range(8)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [200] * 5 + [503] * 3

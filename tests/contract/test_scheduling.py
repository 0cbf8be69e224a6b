"""What callers and agents see of the scheduler: loads without a job, reasons, pinned jobs, nodes that get nothing, predicted waits."""

from __future__ import annotations

import heapq
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.clock import ManualClock

PICTURE: dict[str, Any] = {"prompt": "x"}
LOADS: dict[str, Any] = {**CAPABILITIES, "loads": True}


def submit(api: TestClient, **more: Any) -> str:
    answer = api.post("/api/vision/generate", json={**PICTURE, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def explained(api: TestClient, job_id: str) -> str:
    return str(api.get(f"/api/vision/jobs/{job_id}?explain=true").json()["explanation"])


def modern(api: TestClient, name: str = "agx1", loaded: str | None = None) -> FakeAgent:
    agent = FakeAgent.enrol(api, name)
    agent.capabilities, agent.loaded_model = LOADS, loaded
    assert agent.lease()["lease"] is None
    agent.beat()
    return agent


def test_a_node_is_told_to_load_what_the_queue_needs_and_then_given_the_job(api: TestClient, clock: ManualClock) -> None:
    agent = modern(api)
    job = submit(api)
    told = agent.lease(wait=5)
    assert (told["lease"], told["load"]) == (None, "fleet-shapes")
    agent.beat(state="loading")
    assert api.get("/api/vision/status").json()["switching_nodes"] == 1
    [worker] = api.get("/api/vision/nodes").json()["nodes"]
    assert (worker["status"], worker["loaded_model"]) == ("switching", None)
    assert "loading it, free in about" in explained(api, job)

    clock.advance(12)
    agent.loaded_model = "fleet-shapes"
    agent.beat()
    lease = agent.take()
    assert lease["job_id"] == job
    assert explained(api, job) == "Attempt 1 went to agx1: the node had its model loaded."
    assert api.app.state.fleet.jobs._crew.costs.switch("agx1", "fleet-shapes") == 12
    agent.finish(lease)


def test_an_agent_that_only_listens_is_given_nothing(api: TestClient, agent: FakeAgent) -> None:
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(agent.lease, wait=20)
        while not api.app.state.fleet.nodes.get("agx0").worker.idle:
            time.sleep(0.01)
        listening = pool.submit(agent.lease, wait=1, want_job=False)
        assert asking.result(5)["lease"] is None, "the newer poll ends the older one"
        submit(api)
        assert listening.result(5)["lease"] is None
    agent.finish(agent.take())


def test_an_answer_that_was_lost_is_given_again(api: TestClient) -> None:
    agent = modern(api)
    submit(api)
    assert agent.lease(request_id="one", wait=5)["load"] == "fleet-shapes"
    assert agent.lease(request_id="one")["load"] == "fleet-shapes"
    agent.loaded_model = "fleet-shapes"
    agent.finish(agent.take())
    assert not api.app.state.fleet.nodes.get("agx1").faulty


def test_a_load_that_fails_is_a_fault_of_the_node(api: TestClient, clock: ManualClock) -> None:
    agent = modern(api)
    job = submit(api)
    for _ in range(3):
        assert agent.lease(wait=5)["load"] == "fleet-shapes"
        clock.advance(1)
    assert agent.lease()["load"] is None
    assert "3 jobs or loads in a row went wrong on it" in explained(api, job)


def test_a_model_whose_engines_are_not_built_costs_no_node_and_its_jobs_are_told(api: TestClient, clock: ManualClock) -> None:
    agent = modern(api)
    job = submit(api)
    assert agent.lease(wait=5)["load"] == "fleet-shapes"
    agent.unbuilt_models = ["fleet-shapes"]
    for attempt in range(4):
        agent.fail(agent.take(), "No engine was built yet.", kind="not_built")
        clock.advance(2**attempt)
    assert not api.app.state.fleet.nodes.get("agx1").faulty
    ended = api.get(f"/api/vision/jobs/{job}").json()
    assert (ended["status"], ended["error"]) == ("failed", "No engine was built yet.")
    agent.unbuilt_models = []
    submit(api)
    assert agent.lease(wait=5)["load"] == "fleet-shapes"


def test_an_agent_that_cannot_be_told_gets_the_job_at_once(api: TestClient, agent: FakeAgent) -> None:
    job = submit(api)
    assert agent.take()["job_id"] == job
    assert explained(api, job) == "Attempt 1 went to agx0: no node had its model."


def test_what_loading_takes_within_a_job_is_measured_and_kept(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    job = submit(api)
    lease = agent.take()
    held = {"job_id": lease["job_id"], "attempt": 1, "step": 0, "steps": 0}
    agent.beat(holding=[{**held, "phase": "loading"}], state="loading")
    clock.advance(7)
    agent.loaded_model = "fleet-shapes"
    agent.beat(lease, step=1)
    clock.advance(3)
    agent.finish(lease)
    [attempt] = api.get(f"/api/queue/jobs/{job}").json()["history"]
    assert attempt["load_seconds"] == 7
    costs = api.app.state.fleet.jobs._crew.costs
    assert costs.switch("agx0", "fleet-shapes") == 7


def test_a_model_is_switched_by_hand(api: TestClient, agent: FakeAgent) -> None:
    def switch(node: str, model: str) -> tuple[int, Any]:
        answer = api.post(f"/api/vision/models/switch/{node}", json={"model": model})
        return answer.status_code, answer.json()

    assert switch("nope", "fleet-shapes")[0] == 404
    assert switch("agx0", "fleet-shapes") == (
        409, {"detail": "The agent on node 'agx0' is too old to be told to load a model; bring it up to date."},
    )  # fmt: skip
    other = modern(api, loaded="fleet-shapes")
    assert switch("agx1", "nope")[0] == 404
    assert switch("agx1", "fleet-shapes") == (200, {"node_id": "agx1", "model": "fleet-shapes", "status": "loaded"})
    submit(api, target_node="agx1")
    lease = other.take()
    assert switch("agx1", "other-model")[1]["status"] == "waiting"
    other.finish(lease)
    assert other.lease(wait=5)["load"] == "other-model"
    other.loaded_model = "other-model"
    assert other.lease()["load"] is None
    assert api.get("/api/vision/models/loaded").json()["models"] == {"other-model": ["agx1"]}


def test_a_node_that_is_offline_is_not_switched(api: TestClient, clock: ManualClock) -> None:
    modern(api)
    clock.advance(10)
    api.portal.call(api.app.state.fleet.nodes.check_silence)
    answer = api.post("/api/vision/models/switch/agx1", json={"model": "fleet-shapes"})
    assert (answer.status_code, "offline" in answer.json()["detail"]) == (503, True)


def test_a_job_whose_only_nodes_are_offline_says_so(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    job = submit(api)
    clock.advance(10)
    api.portal.call(api.app.state.fleet.nodes.check_silence)
    assert explained(api, job) == (
        "Node agx0 is given nothing: it is offline. No other node could take it; it waits until one of them can."
    )  # fmt: skip


def test_a_pinned_job_waits_for_its_node(api: TestClient, agent: FakeAgent) -> None:
    other = FakeAgent.enrol(api, "agx1")
    other.lease()
    job = submit(api, target_node="agx1")
    assert agent.lease()["lease"] is None
    assert other.take()["job_id"] == job
    assert api.get(f"/api/vision/jobs/{job}").json()["target_node"] == "agx1"
    answer = api.post("/api/vision/generate", json={**PICTURE, "target_node": "nope"})
    assert (answer.status_code, "nope" in answer.json()["detail"]) == (404, True)


def test_a_node_in_maintenance_is_given_nothing(api: TestClient, agent: FakeAgent) -> None:
    assert api.patch("/api/nodes/agx0", json={"labels": {"maintenance": "yes"}}).status_code == 200
    job = submit(api)
    assert agent.lease()["lease"] is None
    [worker] = api.get("/api/vision/nodes").json()["nodes"]
    assert worker["unavailable"] == "it is in maintenance (its label maintenance=yes)"
    assert explained(api, job) == (
        "Node agx0 is given nothing: it is in maintenance (its label maintenance=yes). "
        "No other node could take it; it waits until one of them can."
    )
    api.patch("/api/nodes/agx0", json={"labels": {}})
    assert agent.take()["job_id"] == job


@pytest.mark.parametrize(("figures", "why"), [({"disk_free_mib": 100}, "100 MiB"), ({"temperature": 99.0}, "99 degrees")])
def test_a_node_without_disk_or_too_hot_is_given_nothing(api: TestClient, agent: FakeAgent, figures: dict[str, float], why: str) -> None:
    agent.beat(metrics=figures)
    job = submit(api)
    assert agent.lease()["lease"] is None
    assert why in explained(api, job)
    agent.beat(metrics={"disk_free_mib": 10_000, "temperature": 40})
    assert agent.take()["job_id"] == job


def test_three_jobs_in_a_row_that_go_wrong_put_a_node_in_quarantine(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    for _ in range(3):
        submit(api, width=64, height=64)
        agent.fail(agent.take(), "The GPU fell off the bus.")
    good = submit(api)
    clock.advance(1)
    assert agent.lease()["lease"] is None
    assert "3 jobs or loads in a row went wrong on it; it is tried again in 59 s" in explained(api, good)
    clock.advance(59)
    agent.fail(agent.take(), "It fell off again.")
    clock.advance(1)
    assert agent.lease()["lease"] is None
    assert "it is tried again in 119 s" in explained(api, good)
    clock.advance(119)
    agent.finish(agent.take())
    assert api.get("/api/vision/nodes").json()["nodes"][0]["unavailable"] is None


def test_engines_that_were_not_built_are_no_fault_of_the_node(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    for _ in range(4):
        submit(api, width=64, height=64)
        agent.fail(agent.take(), "No engine was built yet.", kind="not_built")
    submit(api)
    assert agent.lease()["lease"] is not None


def test_one_job_that_fails_again_and_again_does_not_cost_its_node(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    job = submit(api)
    for attempt in range(4):
        agent.fail(agent.take(), "It broke.")
        clock.advance(2**attempt)
    assert api.get(f"/api/vision/jobs/{job}").json()["status"] == "failed"
    submit(api)
    agent.finish(agent.take())


def test_a_job_of_which_three_workers_died_is_not_tried_again(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    job = api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": PICTURE, "max_retries": 50}).json()["job_id"]
    for attempt in range(3):
        agent.fail(agent.take(), "The engine was ended by signal 11.", kind="engine_died")
        clock.advance(2**attempt)
    shown = api.get(f"/api/queue/jobs/{job}").json()
    assert shown["status"] == "failed"
    assert shown["error"] == "The engine was ended by signal 11. Its worker died 3 times, so the job is not tried again."
    assert len(shown["history"]) == 3


def test_overtakes_are_counted_on_after_a_restart(api: TestClient, agent: FakeAgent) -> None:
    agent.loaded_model = "fleet-shapes"
    old = submit(api, model="other-model", target_node="agx0")
    assert api.get(f"/api/vision/jobs/{old}").json()["overtaken"] == 0
    submit(api)
    agent.finish(agent.take())
    assert api.get(f"/api/vision/jobs/{old}").json()["overtaken"] == 1
    fleet = api.app.state.fleet
    fleet.jobs.index.remove(old)
    api.portal.call(fleet.jobs.load)
    assert api.get(f"/api/vision/jobs/{old}").json()["overtaken"] == 1


def test_predicted_waits_are_right(api: TestClient, clock: ManualClock) -> None:
    """200 jobs of several sizes in bursts, on four nodes, two of them half as fast; every job takes its time to within a tenth."""
    draw = random.Random(6)
    agents = {f"agx{n}": FakeAgent.enrol(api, f"agx{n}") for n in range(4)}
    rate = {"agx0": 0.3, "agx1": 0.3, "agx2": 0.6, "agx3": 0.6}
    for agent in agents.values():
        agent.loaded_model = "fleet-shapes"
        agent.lease()
    predicted: dict[str, tuple[float, float]] = {}
    errors: list[float] = []
    ends: list[tuple[float, str]] = []
    work: dict[str, dict[str, Any]] = {}
    begun, left = clock.monotonic(), 200

    def give() -> None:
        for name, agent in agents.items():
            if name in work:
                continue
            lease = agent.lease(wait=0.05)["lease"]
            if lease is None:
                continue
            work[name] = lease
            payload = lease["payload"]
            seconds = payload["width"] * payload["height"] * payload["steps"] / 1e6 * rate[name] * draw.uniform(0.9, 1.1)
            heapq.heappush(ends, (clock.monotonic() + seconds, name))
            at, wait = predicted.pop(lease["job_id"], (0.0, -1.0))
            actual = clock.monotonic() - at
            if wait >= 0 and actual > 1:
                errors.append(abs(wait - actual) / actual)

    while left or ends:
        for _ in range(min(left, 20) if len(ends) < 4 else 0):
            size = draw.choice([512, 768, 1024])
            job = submit(api, width=size, height=size, steps=draw.choice([10, 20, 40]))
            wait = api.get(f"/api/vision/jobs/{job}").json().get("wait_seconds")
            if clock.monotonic() - begun > 60 and wait is not None:
                predicted[job] = clock.monotonic(), wait
            left -= 1
        give()
        if not ends:
            break
        end, name = heapq.heappop(ends)
        while clock.monotonic() < end:
            clock.advance(min(5.0, end - clock.monotonic()))
            for working, lease in work.items():
                agents[working].beat(lease)
        agents[name].finish(work.pop(name))
        for each, agent in agents.items():
            agent.beat(work.get(each))
        give()
    assert len(errors) >= 100
    assert statistics.median(errors) <= 0.25, f"median error {statistics.median(errors):.2f}"


def test_what_was_measured_in_another_power_mode_is_forgotten(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    agent.loaded_model = "fleet-shapes"
    agent.beat(facts={"power_mode": "MAXN"})
    for _ in range(2):
        submit(api)
        lease = agent.take()
        clock.advance(1)
        agent.finish(lease)
    costs = api.app.state.fleet.jobs._crew.costs
    assert any(key[0] == "agx0" for key in costs._rates)
    agent.beat(facts={"power_mode": "MODE_15W"})
    agent.lease()
    assert not any(key[0] == "agx0" for key in costs._rates)


def test_a_job_that_failed_on_the_only_node_with_its_model_goes_to_another(api: TestClient, clock: ManualClock) -> None:
    first, second = modern(api, "agx1", "fleet-shapes"), modern(api, "agx2", "other-model")
    job = submit(api)
    first.fail(first.take(), "It broke.")
    clock.advance(2)
    assert first.lease()["lease"] is None
    assert second.lease(wait=5)["load"] == "fleet-shapes"
    second.loaded_model = "fleet-shapes"
    second.beat()
    assert second.take()["job_id"] == job


def test_a_model_that_was_loaded_while_a_poll_was_open_counts_at_once(api: TestClient) -> None:
    agent = modern(api)
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(agent.lease, wait=20)
        while not api.app.state.fleet.nodes.get("agx1").worker.idle:
            time.sleep(0.01)
        agent.loaded_model = "fleet-shapes"  # as an engine does by itself when it has come up
        agent.beat()
        job = submit(api)
        reply = polling.result(15)
    assert (reply["load"], reply["lease"]["job_id"]) == (None, job)


def test_a_job_whose_node_was_lost_keeps_its_place(api: TestClient, clock: ManualClock) -> None:
    lost, other = modern(api, "agx1", "fleet-shapes"), modern(api, "agx2", "fleet-shapes")
    first = submit(api)
    assert lost.take()["job_id"] == first
    clock.advance(1)
    later = [submit(api) for _ in range(3)]
    lost.restart()
    lost.loaded_model = None
    lost.beat()
    assert other.take()["job_id"] == first
    assert api.get(f"/api/vision/jobs/{later[0]}").json()["overtaken"] == 0

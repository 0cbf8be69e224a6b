"""Several leases at once: given together, and each with an end of its own."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.app import create_app
from fleet_api.settings import Settings
from tests.support.agent import FakeAgent, png
from tests.support.client import client_of
from tests.support.clock import ManualClock

Leases = list[dict[str, Any]]


def submit(api: TestClient, number: int = 1, **more: Any) -> list[str]:
    answer = api.post("/api/vision/generate", json={"prompt": "x", "count": number, **more})
    assert answer.status_code == 201, answer.text
    return list(answer.json()["job_ids"])


def ids(leases: Leases) -> list[str]:
    return [lease["job_id"] for lease in leases]


def job(api: TestClient, job_id: str) -> dict[str, Any]:
    return dict(api.get(f"/api/vision/jobs/{job_id}").json())


def history(api: TestClient, job_id: str) -> list[dict[str, Any]]:
    return list(api.get(f"/api/queue/jobs/{job_id}").json()["history"])


def held(leases: Leases) -> list[dict[str, Any]]:
    return [{"job_id": lease["job_id"], "attempt": lease["attempt"], "step": 3, "steps": 20} for lease in leases]


def test_compatible_jobs_are_given_together_and_each_ends_by_itself(api: TestClient, agent: FakeAgent) -> None:
    made = submit(api, 5)
    leases = agent.take_batch(4)
    assert ids(leases) == made[:4]
    assert [lease["attempt"] for lease in leases] == [1] * 4
    assert len({lease["payload"]["seed"] for lease in leases}) == 4
    agent.beat(holding=held(leases))
    assert [job(api, each).get("progress") for each in made] == [15] * 4 + [None]
    agent.finish(leases[2])
    assert [job(api, each)["status"] for each in made] == ["processing", "processing", "completed", "processing", "queued"]
    for lease in (leases[0], leases[1], leases[3]):
        agent.finish(lease)
    assert ids(agent.take_batch(4)) == made[4:]
    assert history(api, made[1])[0]["reason"] == f"it is made together with {made[0]}"


def test_an_agent_that_says_nothing_of_batches_gets_one_job(api: TestClient, agent: FakeAgent) -> None:
    submit(api, 3)
    body = {"incarnation": agent.incarnation, "request_id": "old", "capabilities": agent.capabilities, "wait_seconds": 5}
    answer = api.post("/api/agents/lease", headers=agent.headers, json=body).json()
    assert answer["lease"] is not None
    assert answer["companions"] == []


def test_what_is_not_alike_is_not_given_together(api: TestClient, agent: FakeAgent) -> None:
    for more in ({}, {"width": 512}, {"steps": 5}, {"scheduler": "euler_a"}, {"guidance_scale": 1}, {"model": "other-model"}):
        submit(api, **more)
    assert [len(agent.take_batch(8)) for _ in range(6)] == [1] * 6


def test_a_repeated_request_gets_the_same_leases(api: TestClient, agent: FakeAgent) -> None:
    submit(api, 4)
    leases = agent.take_batch(3, "once")
    assert agent.take_batch(3, "once") == leases
    agent.finish(leases[0])
    assert agent.take_batch(3, "once") == leases[1:]


def test_one_is_cancelled_and_the_others_go_on(api: TestClient, agent: FakeAgent) -> None:
    leases = agent.take_batch(3) if submit(api, 3) else []
    assert api.delete(f"/api/queue/jobs/{leases[1]['job_id']}").json()["status"] == "cancelled"
    stopped = agent.beat(holding=held(leases))
    assert stopped == [{"job_id": leases[1]["job_id"], "attempt": 1}]
    assert agent.complete(leases[1], png()).status_code == 410
    agent.finish(leases[0])
    agent.finish(leases[2])


def test_one_fails_by_itself_and_is_then_made_alone(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    made = submit(api, 3)
    leases = agent.take_batch(3)
    assert agent.fail(leases[0], "The model gave values that are not numbers.").status_code == 204
    agent.finish(leases[1])
    agent.finish(leases[2])
    assert [each["outcome"] for each in history(api, made[0])] == ["failed"]
    more = submit(api, 2)
    clock.advance(60)
    agent.beat()
    api.portal.call(api.app.state.fleet.dispatcher.look_again)
    batches = [ids(agent.take_batch(3, "a")), ids(agent.take_batch(3, "b"))]
    assert sorted(batches, key=len) == [made[:1], more]


@pytest.mark.parametrize("kind", ["engine_died", "out_of_memory", "step_timeout", "timeout"])
def test_what_breaks_a_batch_costs_nobody_a_retry(api: TestClient, agent: FakeAgent, kind: str) -> None:
    made = submit(api, 4)
    leases = agent.take_batch(4)
    agent.finish(leases[3])
    for lease in leases[:3]:
        assert agent.fail(lease, "The engine was ended by signal 11.", kind=kind).status_code == 204
    assert [job(api, each)["status"] for each in made] == ["queued", "queued", "queued", "completed"]
    for each in made[:3]:
        assert [one["outcome"] for one in history(api, each)] == ["parted"]
        assert ids(agent.take_batch(4)) == [each]


def test_one_that_breaks_every_engine_fails_in_the_end_and_its_companions_are_made(api: TestClient, agent: FakeAgent) -> None:
    made = submit(api, 3)
    bad, done = made[1], []
    while job(api, bad)["status"] != "failed" or len(done) < 2:
        leases = agent.take_batch(4)
        if bad in ids(leases):
            for lease in leases:
                agent.fail(lease, "The engine was ended by signal 11.", kind="engine_died")
            agent.beat()
            api.app.state.fleet.clock.advance(120)
            api.portal.call(api.app.state.fleet.dispatcher.look_again)
        else:
            agent.finish(leases[0])
            done += ids(leases)
    assert sorted(done) == sorted([made[0], made[2]])
    assert [each["outcome"] for each in history(api, bad)] == ["parted", "failed", "failed", "failed"]
    assert [len(history(api, each)) for each in done] == [2, 2]


def test_a_broken_batch_is_one_fault_of_its_node(api: TestClient, agent: FakeAgent) -> None:
    submit(api, 8)
    for lease in agent.take_batch(8):
        agent.fail(lease, kind="engine_died")
    assert len(api.app.state.fleet.nodes.get("agx0").faulty) == 1


def test_an_agent_that_dies_loses_all_of_them_at_no_cost(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    made = submit(api, 3)
    leases = agent.take_batch(3)
    agent.beat(holding=held(leases[:2]))
    clock.advance(10)
    agent.beat(holding=held(leases[:2]))
    clock.advance(8)
    api.portal.call(api.app.state.fleet.leases.reap)
    assert [job(api, each)["status"] for each in made] == ["processing", "processing", "queued"], "each lapses by itself"
    agent.restart()
    assert ids(agent.take_batch(1)) == made[:1]
    assert [each.get("outcome") for each in history(api, made[0])] == ["parted", None]
    assert [job(api, each)["status"] for each in made] == ["processing", "queued", "queued"]


def test_a_job_over_its_time_ends_alone(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    made = [
        api.post("/api/queue/jobs", json={"job_type": "image_gen", "payload": {"prompt": "x"}, "timeout_seconds": seconds}).json()["job_id"]
        for seconds in (60, 600)
    ]
    leases = agent.take_batch(2)
    assert ids(leases) == made
    for _ in range(7):
        clock.advance(10)
        agent.beat(holding=held(leases))
    api.portal.call(api.app.state.fleet.leases.reap)
    assert agent.beat(holding=held(leases)) == [{"job_id": made[0], "attempt": 1}]
    agent.finish(leases[1])


def test_a_job_over_its_time_beside_others_has_it_for_itself_then(api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    body = {"job_type": "image_gen", "payload": {"prompt": "x"}, "timeout_seconds": 60, "max_retries": 0}
    made = [api.post("/api/queue/jobs", json=body).json()["job_id"] for _ in range(4)]
    leases = agent.take_batch(4)
    for number in range(2):
        for _ in range(7):
            clock.advance(10)
            agent.beat(holding=held(leases))
        api.portal.call(api.app.state.fleet.leases.reap)
        if number == 0:
            assert [job(api, each)["status"] for each in made] == ["queued"] * 4, "it was not tried by itself yet"
            assert [one["outcome"] for one in history(api, made[0])] == ["parted"]
            leases = agent.take_batch(4)
            assert ids(leases) == made[:1]
    assert [one["outcome"] for one in history(api, made[0])] == ["parted", "timed_out"]
    assert [job(api, each)["status"] for each in made] == ["failed", "queued", "queued", "queued"]


def test_a_batch_counts_for_the_caller_whose_it_is(api: TestClient, agent: FakeAgent) -> None:
    submit(api, 4)
    agent.take_batch(4)
    queue, clock = api.app.state.fleet.jobs.index.waiting, api.app.state.fleet.clock
    assert sum(queue.shares.of(caller, clock.monotonic()) for caller in queue.shares._had) > 3 * 8


def test_what_a_batch_took_is_learnt_as_its_part(settings: Settings, api: TestClient, agent: FakeAgent, clock: ManualClock) -> None:
    submit(api, 4)
    leases = agent.take_batch(4)
    clock.advance(8)
    for lease in leases:
        agent.beat(holding=held(leases))
        agent.finish(lease)
    learnt = api.app.state.fleet.jobs._crew.costs._rates
    assert 1.9 < next(iter(learnt.values())).value * 1024 * 1024 * 20 / 1e6 < 2.1
    with client_of(create_app(settings, clock)) as again:
        after = again.app.state.fleet.jobs._crew.costs._rates  # type: ignore[attr-defined]
        assert {key: each.value for key, each in after.items()} == pytest.approx({key: each.value for key, each in learnt.items()})


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("number", [4, 1])
def test_the_last_of_a_batch_is_judged_after_a_restart_as_without_one(
    settings: Settings, clock: ManualClock, api: TestClient, agent: FakeAgent, restarted: bool, number: int
) -> None:
    made = submit(api, number)
    leases = agent.take_batch(4)
    ends = (agent.finish, agent.fail, lambda each: api.delete(f"/api/queue/jobs/{each['job_id']}"))
    for lease, end in zip(leases[:-1], ends, strict=False):
        clock.advance(1)
        end(lease)
    with contextlib.ExitStack() as stack:
        if restarted:
            api.app.state.fleet.dispatcher.close()
            agent.api = stack.enter_context(client_of(create_app(settings, clock)))
        assert agent.fail(leases[-1], "The engine was ended by signal 11.", kind="engine_died").status_code == 204
        assert [each["outcome"] for each in history(agent.api, made[-1])] == ["parted" if number > 1 else "failed"]
        assert [job(agent.api, each)["status"] for each in made] == ["completed", "queued", "cancelled", "queued"][-number:]


def test_a_restart_of_the_control_plane_keeps_batches(settings: Settings, clock: ManualClock, api: TestClient, agent: FakeAgent) -> None:
    made = submit(api, 3)
    leases = agent.take_batch(2, "once")
    api.app.state.fleet.dispatcher.close()
    with client_of(create_app(settings, clock)) as again:
        agent.api = again
        assert agent.take_batch(2, "once") == leases
        for lease in leases:
            agent.fail(lease, kind="engine_died")
        assert [each["outcome"] for each in history(again, made[0])] == ["parted"]
    with client_of(create_app(settings, clock)) as third:
        agent.api = third
        assert sorted(len(agent.take_batch(4)) for _ in range(3)) == [1] * 3, "it is still known that they are to be made alone"

"""A model that waits in a node's memory, as the rule sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet_api.scheduling.condition import lacks_memory
from fleet_api.scheduling.explain import explain
from fleet_api.scheduling.smart import decide
from fleet_api.scheduling.types import Load, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

SKILLS = Skills(frozenset({"image_gen"}), frozenset({"a", "b"}))
JOB = WaitingJob("j", "image_gen", "b", work=10.0)


def worker(name: str, seconds: float, model: str | None = "a", **more: object) -> Worker:
    return Worker(name, SKILLS, model, sort=name, switch=lambda _: seconds, **more)  # type: ignore[arg-type]


def queue(*jobs: WaitingJob) -> WaitingQueue:
    found = WaitingQueue(0.0)
    for job in jobs:
        found.add(job, 0.0)
    return found


@pytest.mark.parametrize("order", [list, lambda row: row[::-1]])
@pytest.mark.parametrize("model", [None, "a"])
def test_the_node_that_has_it_soonest_gets_it_ready_alone(order: Callable[[list[Worker]], list[Worker]], model: str | None) -> None:
    cold, parked = worker("a-cold", 20.0, model), worker("parked", 3.0, model, parked=frozenset({"b"}))
    assert decide(queue(JOB), order([cold, parked]), 1.0) == [Load("parked", "b", "no node had its model")]


def test_of_several_models_that_nobody_has_that_which_most_wait_for_is_loaded_where_it_is_soonest() -> None:
    few, many = WaitingJob("few", "image_gen", "a", work=10.0), [WaitingJob(f"m{n}", "image_gen", "b", work=10.0) for n in range(2)]
    first = decide(queue(few, *many), [worker("a-slow", 90.0, None), worker("quick", 10.0, None)], 1.0)[0]
    assert first == Load("quick", "b", "no node had its model")


def test_it_needs_room_like_one_that_is_loaded_from_disk() -> None:
    parked = worker("full", 3.0, room=4_000.0, needs={"b": 9_000.0}, parked=frozenset({"b"}))
    assert lacks_memory(parked, "b")
    assert decide(queue(JOB), [parked], 1.0) == []
    assert not lacks_memory(worker("spare", 0.0, room=4_000.0, needs={"b": 9_000.0}, spare=frozenset({"b"})), "b")


def test_the_explanation_names_the_node_that_has_it_soonest() -> None:
    slow = worker("a-slow", 1.0, speed=lambda _: 0.1)
    said = explain(queue(JOB), JOB, [slow, worker("b-cold", 20.0), worker("parked", 3.0)], 1.0, None)
    assert "No node has its model b loaded; parked (idle) would take 3 s to load it." in said


@pytest.mark.parametrize("order", [list, lambda row: row[::-1]])
def test_a_node_that_is_slow_with_it_does_not_get_it_for_being_ready_sooner(order: Callable[[list[Worker]], list[Worker]]) -> None:
    slow, fast = worker("a-slow", 3.0, None, speed=lambda _: 0.1), worker("fast", 8.0, None, speed=lambda _: 1.9)
    job = WaitingJob("j", "image_gen", "b", work=3.0)
    assert decide(queue(job), order([slow, fast]), 1.0) == [Load("fast", "b", "no node had its model")]


def test_a_model_that_is_parked_somewhere_weighs_as_one_that_is_not() -> None:
    parked = worker("parked", 2.0, None, parked=frozenset({"a"}))
    seconds = {"a": 2.0, "b": 30.0}
    parked.switch = lambda model: seconds[model or ""]
    cold = worker("cold", 30.0, None)
    many, few = [WaitingJob(f"a{n}", "image_gen", "a", work=10.0) for n in range(3)], WaitingJob("b1", "image_gen", "b", work=10.0)
    assert decide(queue(few, *many), [cold, parked], 1.0)[0] == Load("parked", "a", "no node had its model")

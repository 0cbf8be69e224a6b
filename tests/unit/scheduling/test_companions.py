"""Which jobs go together: of one kind, in the order in which they would have come, no further past others than the bound allows."""

from __future__ import annotations

import random
import time
from collections.abc import Hashable
from dataclasses import replace
from statistics import median

import pytest

from fleet_api.jobs.images import batch_kind
from fleet_api.scheduling import smart
from fleet_api.scheduling.forecast import forecast
from fleet_api.scheduling.smart import decide, overtakes_allowed
from fleet_api.scheduling.types import Assignment, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

SKILLS = Skills(frozenset({"image_gen"}), frozenset({"A", "B"}), frozenset({"euler", "ddim"}), frozenset({"style"}))
PICTURE = {"width": 1024, "height": 1024, "steps": 20, "prompt": "x", "scheduler": "euler"}


def job(age: int, kind: Hashable = "k", **more: object) -> WaitingJob:
    given: dict[str, object] = {"model": "A", "order": (True, age), "work": 8.0, **more}
    return WaitingJob(str(age), "image_gen", kind=kind, **given)  # type: ignore[arg-type]


def queue_of(*jobs: WaitingJob) -> WaitingQueue:
    queue = WaitingQueue(began=0.0)
    for each in jobs:
        queue.add(each, each.since, 30.0)
    return queue


def node(name: str = "n", batch: int = 4, model: str = "A", **more: object) -> Worker:
    return Worker(name, SKILLS, model, batch=batch, switch=lambda _: 30.0, **more)  # type: ignore[arg-type]


def given(queue: WaitingQueue, *workers: Worker) -> dict[str, list[str]]:
    decisions = decide(queue, workers, 0.0)
    return {each.node_id: [one.id for one in each.jobs] for each in decisions if isinstance(each, Assignment)}


def test_a_batch_is_of_one_kind_and_no_larger_than_the_node_takes() -> None:
    jobs = [job(0), job(1, kind="other"), *(job(age) for age in range(2, 9))]
    assert given(queue_of(*jobs), node(batch=4)) == {"n": ["0", "2", "3", "4"]}
    assert given(queue_of(*jobs), node(batch=1)) == {"n": ["0"]}
    assert given(queue_of(*jobs[:3]), node(batch=4)) == {"n": ["0", "2"]}


@pytest.mark.parametrize(
    "other", [{"model": "B"}, {"kind": None}, {"kind": "l"}, {"sampler": "ddim"}, {"loras": ("style",)}, {"node": "m"}, {"avoid": "n"}]
)
def test_what_is_not_alike_does_not_go_along(other: dict[str, object]) -> None:
    assert given(queue_of(job(0, sampler="euler"), job(1, **{"sampler": "euler", **other})), node())["n"] == ["0"]


def test_a_job_that_is_to_be_alone_takes_nobody() -> None:
    assert given(queue_of(job(0, kind=None), job(1)), node()) == {"n": ["0"]}


def test_a_job_for_this_node_and_one_for_any_go_together() -> None:
    assert given(queue_of(job(0, node="n"), job(1)), node()) == {"n": ["0", "1"]}


def test_companions_have_the_same_priority() -> None:
    queue = queue_of(job(0), job(1), job(2, priority=10), job(3, priority=-10))
    assert given(queue, node()) == {"n": ["2"]}, "one of a lower priority would make the higher one wait for it"


def test_the_callers_take_turns_in_a_batch() -> None:
    jobs = [*(job(age, caller="many") for age in range(6)), job(6, caller="few"), job(7, caller="few")]
    assert given(queue_of(*jobs), node(batch=4)) == {"n": ["0", "6", "1", "7"]}
    queue = queue_of(*jobs)
    queue.shares.add("few", 100.0, 0.0)
    assert given(queue, node(batch=4)) == {"n": ["0", "1", "2", "3"]}


def test_each_companion_is_charged_to_its_caller() -> None:
    queue = queue_of(*(job(age, caller="many") for age in range(4)), job(4, caller="few", kind="other"))
    for one in decide(queue, [node(batch=4)], 0.0)[0].jobs:  # type: ignore[union-attr]
        queue.remove(one.id, started=0.0)
    assert queue.shares.of("many", 0.0) == 32.0


def test_idle_nodes_share_what_there_is() -> None:
    queue = queue_of(*(job(age) for age in range(4)))
    assert given(queue, node("a"), node("b")) == {"a": ["0", "1"], "b": ["2", "3"]}
    assert given(queue, node("a"), *(node(name) for name in "bcd")) == {name: [str(number)] for number, name in enumerate("abcd")}
    assert given(queue, node("a"), node("b", model="B", loads=True))["a"] == ["0", "1", "2", "3"]


def test_a_batch_makes_the_node_busy_for_all_of_it() -> None:
    worker = node(batch=4)
    given(queue_of(*(job(age) for age in range(4))), worker)
    assert worker.free_at == 32.0


def test_the_forecast_counts_companions() -> None:
    queue = queue_of(*(job(age) for age in range(8)))
    assert forecast(queue, [node(batch=4)], 0.0) == {str(age): 0.0 if age < 4 else 32.0 for age in range(8)}


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_no_job_is_overtaken_more_often_than_allowed(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart, "OVERTAKES_PER_NODE", 20)
    queue, workers, most = queue_of(job(0, model="B", kind="b"), *(job(age) for age in range(1, 200))), [node(batch=batch)], 0
    for turn in range(200):
        workers[0].idle = True
        for each in decide(queue, workers, float(turn)):
            for one in each.jobs if isinstance(each, Assignment) else ():
                queue.remove(one.id, started=float(turn))
                most = max(most, queue.overtaken("0"))
        if "0" not in queue:
            break
    assert "0" not in queue
    assert most <= overtakes_allowed(1)


def test_what_was_overtaken_often_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart, "OVERTAKES_PER_NODE", 0)
    found = given(queue_of(*(job(age) for age in range(5))), *(node(name, batch=2) for name in "abc"))
    assert found == {"a": ["0", "1"], "b": ["2", "3"], "c": ["4"]}


def test_looking_for_companions_costs_the_same_however_long_the_queue_is() -> None:
    took = {}
    for waiting in (1_000, 100_000):
        chance = random.Random(7)
        queue = WaitingQueue(began=0.0)
        for age in range(waiting):
            queue.add(job(age, kind=chance.randrange(200), caller=f"c{chance.randrange(20)}"), 0.0)
        tried = []
        for _ in range(20):
            started = time.perf_counter()
            [decision] = decide(queue, [node(batch=8)], 0.0)
            tried.append(time.perf_counter() - started)
            assert len(decision.jobs) == (8 if waiting > 1_000 else len(decision.jobs))  # type: ignore[union-attr]
        took[waiting] = median(tried)
    assert took[100_000] < 5 * took[1_000] + 0.001, took


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        ({"prompt": "y", "seed": 9, "negative_prompt": "z", "preview_every": 2}, True),
        ({"guidance_scale": 5.0}, False),
        ({"width": 512}, False),
        ({"steps": 30}, False),
        ({"steps_default": True}, False),
        ({"lora": "style", "lora_strength": 0.8}, False),
        ({"loras": [{"name": "style", "strength": 0.8}]}, False),
    ],
)
def test_what_makes_a_kind(change: dict[str, object], alike: bool) -> None:
    assert (batch_kind({**PICTURE, **change}) == batch_kind(PICTURE)) is alike


def test_guidance_may_differ_where_it_is_on() -> None:
    assert batch_kind({**PICTURE, "guidance_scale": 5}) == batch_kind({**PICTURE, "guidance_scale": 7.5})
    assert batch_kind({**PICTURE, "guidance_scale": 5}) != batch_kind({**PICTURE, "guidance_scale": 1})
    with_lora = {**PICTURE, "lora": "style", "lora_strength": 0.8}
    assert batch_kind(with_lora) == batch_kind({**with_lora, "seed": 2})
    assert batch_kind(with_lora) != batch_kind({**with_lora, "lora_strength": 0.7})


@pytest.mark.parametrize("payload", [{}, {"width": "wide"}, {**PICTURE, "loras": "all"}, {**PICTURE, "guidance_scale": "much"}])
def test_a_payload_of_any_sort_has_a_kind_or_none(payload: dict[str, object]) -> None:
    hash(batch_kind(payload))
    assert replace(job(0), kind=batch_kind(payload))

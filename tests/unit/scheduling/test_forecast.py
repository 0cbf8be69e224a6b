"""When waiting jobs will start, worked out by hand; and why they wait, in words."""

from __future__ import annotations

import pytest

from fleet_api.scheduling.explain import explain
from fleet_api.scheduling.forecast import forecast, share
from fleet_api.scheduling.types import Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

SKILLS = Skills(frozenset({"image_gen"}), frozenset({"a", "b"}), frozenset({"euler"}))


def worker(name: str, model: str | None = "a", busy: float = 0.0, **more: object) -> Worker:
    return Worker(name, SKILLS, model, idle=not busy, free_at=busy, switch=lambda _: 30.0, **more)  # type: ignore[arg-type]


def queue(*jobs: tuple[str, str, float]) -> WaitingQueue:
    found = WaitingQueue(0.0)
    for number, (name, model, work) in enumerate(jobs):
        found.add(WaitingJob(name, "image_gen", model, order=(True, number), work=work), 0.0)
    return found


def test_jobs_of_one_model_start_as_its_nodes_become_free() -> None:
    waiting = queue(("1", "a", 10), ("2", "a", 10), ("3", "a", 10), ("4", "a", 10))
    starts = forecast(waiting, [worker("x", busy=4.0), worker("y", busy=9.0)], 0.0)
    assert starts == {"1": 4, "2": 9, "3": 14, "4": 19}
    assert len(waiting) == 4, "the forecast changes nothing"


def test_a_model_that_nobody_has_starts_after_its_load() -> None:
    free = worker("y", model=None)
    assert forecast(queue(("1", "b", 10)), [worker("x", busy=100.0), free], 0.0) == {"1": 30}
    assert (free.model, free.idle) == (None, True)


def test_what_is_late_is_taken_as_free_now_and_what_cannot_start_is_left_out() -> None:
    assert forecast(queue(("1", "a", 10)), [worker("x", busy=5.0)], 50.0) == {"1": 0}
    assert forecast(queue(("1", "a", 10)), [worker("x", barred="it is in maintenance")], 0.0) == {}
    assert forecast(queue(("1", "a", 10)), [], 0.0) == {}


def test_only_the_first_are_followed_and_the_rest_is_shared_out() -> None:
    waiting = queue(*((str(number), "a", 10.0) for number in range(20)))
    assert len(forecast(waiting, [worker("x")], 0.0, limit=5)) == 5
    assert share([worker("x", busy=6.0), worker("y")], 94.0, 0.0) == 50
    assert share([worker("x", barred="hot")], 10.0, 0.0) is None


def test_why_a_job_waits() -> None:
    waiting = queue(("1", "a", 10), ("2", "b", 10))
    first, second = waiting.get("1"), waiting.get("2")
    assert first is not None
    assert second is not None
    nodes = [worker("x", busy=8.0), worker("y", barred="it is at 99 degrees and throttled")]
    assert explain(waiting, first, nodes, 0.0, 8.0) == (
        "Node y is given nothing: it is at 99 degrees and throttled. No job of its own priority is older. "
        "Its model a is on x (at work, free in about 8 s); another node loads it only when that shortens the whole queue. "
        "It should start in about 8 s."
    )
    assert explain(waiting, second, nodes[:1], 0.0, None) == (
        "One older job of its priority waits. No node has its model b loaded; x (at work, free in about 8 s) would take 30 s to load it."
    )
    stranger = WaitingJob("3", "training", None)
    assert "No enrolled node serves jobs of type training" in explain(waiting, stranger, nodes, 0.0, None)


@pytest.mark.parametrize("above", [1, 2])
def test_jobs_of_a_higher_priority_are_told_of(above: int) -> None:
    waiting = queue(("1", "a", 10))
    for number in range(above):
        waiting.add(WaitingJob(f"high{number}", "image_gen", "a", 10, order=(True, 10 + number)), 0.0)
    job = waiting.get("1")
    assert job is not None
    words = explain(waiting, job, [worker("x", busy=8.0)], 0.0, None)
    assert words.startswith(["One job of a higher priority waits", "2 jobs of a higher priority wait"][above - 1])

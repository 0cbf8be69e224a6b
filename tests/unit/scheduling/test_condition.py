"""Heat and memory of nodes, as the rule sees them."""

from __future__ import annotations

import pytest

from fleet_api.scheduling.condition import MOST_SLOWED, THROTTLED, lacks_memory, slowed
from fleet_api.scheduling.explain import explain
from fleet_api.scheduling.smart import decide
from fleet_api.scheduling.types import Assignment, Load, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

SKILLS = Skills(frozenset({"image_gen"}), frozenset({"a", "b"}))
JOB = WaitingJob("j", "image_gen", "b", work=10.0)


def worker(name: str, model: str | None = None, **more: object) -> Worker:
    return Worker(name, SKILLS, model, sort=name, **more)  # type: ignore[arg-type]


def queue(*jobs: WaitingJob) -> WaitingQueue:
    found = WaitingQueue(0.0)
    for job in jobs:
        found.add(job, 0.0)
    return found


@pytest.mark.parametrize(
    ("throttled", "clock", "best", "expected"),
    [
        (False, 300, 1300, 1.0), (True, 650, 1300, 2.0), (True, 100, 1300, MOST_SLOWED), (True, None, 1300, THROTTLED),
        (True, 650, None, THROTTLED), (True, 1300, 1300, THROTTLED), (True, 0, 1300, THROTTLED),
    ],
)  # fmt: skip
def test_heat(throttled: bool, clock: float | None, best: float | None, expected: float) -> None:
    assert slowed(throttled, clock, best) == expected


def test_a_cool_node_goes_before_a_throttled_one() -> None:
    hot, cool = worker("a-hot", "b", speed=lambda _: 0.5), worker("cool", "b")
    [decision] = decide(queue(JOB), [hot, cool], 1.0)
    assert decision.node_id == "cool"


def test_a_model_that_does_not_fit_now_is_not_loaded_there() -> None:
    full, roomy = worker("a-full", room=4_000.0, needs={"b": 9_000.0}), worker("roomy", room=9_500.0, needs={"b": 9_000.0})
    assert lacks_memory(full, "b")
    assert not lacks_memory(roomy, "b")
    assert not lacks_memory(full, "a"), "what is not known is no lack"
    assert not lacks_memory(worker("x", needs={"b": 9_000.0}), "b")
    assert not lacks_memory(worker("x", "b", room=1.0, needs={"b": 9_000.0}), "b"), "it is loaded"
    [decision] = decide(queue(JOB), [full, roomy], 1.0)
    assert isinstance(decision, Load)
    assert decision.node_id == "roomy"
    assert decide(queue(JOB), [full], 1.0) == []


def test_a_job_goes_where_its_model_is_loaded_whatever_is_free() -> None:
    [decision] = decide(queue(JOB), [worker("full", "b", room=10.0, needs={"b": 9_000.0})], 1.0)
    assert isinstance(decision, Assignment)


def test_it_is_said() -> None:
    full = worker("full", room=4_096.0, needs={"b": 9_216.0})
    assert "No node that could take it has room for its model b: full has 4.0 GiB of memory for it and would need 9.0 GiB." in explain(
        queue(JOB), JOB, [full], 1.0, None
    )
    noted = worker("agx0", "b", note="power mode 30W, throttled by heat to 50 % of its speed")
    assert "agx0 (idle, power mode 30W, throttled by heat to 50 % of its speed)" in explain(queue(JOB), JOB, [noted], 1.0, None)

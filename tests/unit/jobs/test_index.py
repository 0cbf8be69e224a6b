"""The queue in memory against a plain sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet_api.jobs.index import QueueIndex
from fleet_api.jobs.models import Job
from fleet_api.scheduling.costs import Costs
from tests.support.clock import ManualClock


def row(seq: int, priority: int = 0, front: bool = False, model: str = "a") -> Job:
    return Job(
        seq=seq, id=f"job-{seq}", door="queue", job_type="image_gen", state="queued", priority=priority, front=front, model=model,
        created_at=0, queued_at=0,
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from("ab"), st.booleans()), max_size=40))
def test_order_positions_and_lanes_equal_a_sorted_list(entries: list[tuple[int, bool, str, bool]]) -> None:
    index = QueueIndex(ManualClock(), Costs())
    rows = [row(seq, priority, front, model) for seq, (priority, front, model, _) in enumerate(entries)]
    for each in rows:
        index.add(each)
    removed = {each.id for each, (_, _, _, gone) in zip(rows, entries, strict=True) if gone}
    for job_id in removed:
        assert index.remove(job_id)
        assert not index.remove(job_id)
    expected = sorted((each for each in rows if each.id not in removed), key=lambda r: (-r.priority, not r.front, r.seq or 0))
    assert index.ids() == [each.id for each in expected]
    assert [index.position(each.id) for each in expected] == list(range(1, len(expected) + 1))
    by_priority = [job.id for tier in index.waiting.tiers() for job in tier.by_age.values()]
    assert by_priority == index.ids(), "the scheduler sees the same jobs in the same order"
    assert len(index) == len(expected)


def test_a_job_added_twice_is_there_once() -> None:
    index = QueueIndex(ManualClock(), Costs())
    index.add(row(1))
    index.add(row(1))
    assert len(index) == 1
    assert "job-1" in index

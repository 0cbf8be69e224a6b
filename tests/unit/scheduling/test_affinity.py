"""The first scheduling rule, by example and by property."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from fleet_api.scheduling.affinity import LOOKAHEAD, MAX_OVERTAKES, assign
from fleet_api.scheduling.eligibility import can_serve, why_impossible
from fleet_api.scheduling.types import Candidates, WaitingJob, Worker

MODELS = ["a", "b", "c"]


def job(id_: str, model: str | None = "a", priority: int = 0, **more: object) -> WaitingJob:
    return WaitingJob(id_, "image_gen", model, priority, **more)  # type: ignore[arg-type]


def worker(id_: str, loaded: str | None = None, models: Iterable[str] = MODELS, cluster: str | None = None) -> Worker:
    return Worker(id_, loaded, cluster, frozenset({"image_gen"}), frozenset(models), frozenset({"euler"}))


def queue(*jobs: WaitingJob) -> Candidates:
    ordered = sorted(jobs, key=lambda each: -each.priority)
    return lambda asking: (each for each in ordered if can_serve(each, asking))


def test_oldest_first_without_a_loaded_model() -> None:
    assert [each.job_id for each in assign(queue(job("1", "b"), job("2", "a")), [worker("n")])] == ["1"]


def test_the_loaded_model_is_preferred_inside_a_priority() -> None:
    [choice] = assign(queue(job("1", "b"), job("2", "a")), [worker("n", loaded="a")])
    assert (choice.job_id, choice.passed_over) == ("2", ("1",))


def test_priority_beats_affinity() -> None:
    [choice] = assign(queue(job("1", "a"), job("2", "b", priority=5)), [worker("n", loaded="a")])
    assert choice.job_id == "2"


def test_two_workers_never_get_one_job() -> None:
    choices = assign(queue(job("1"), job("2")), [worker("n", "a"), worker("m", "a")])
    assert {each.job_id for each in choices} == {"1", "2"}
    assert len(choices) == 2


def test_a_job_overtaken_often_enough_goes_next() -> None:
    [choice] = assign(queue(job("1", "b", overtaken=MAX_OVERTAKES), job("2", "a")), [worker("n", loaded="a")])
    assert choice.job_id == "1"


def test_a_retry_avoids_the_node_that_failed_where_it_can() -> None:
    jobs = queue(job("1", avoid="n"), job("2"))
    assert assign(jobs, [worker("n")])[0].job_id == "2"
    assert assign(queue(job("1", avoid="n")), [worker("n")])[0].job_id == "1"


def test_no_job_waits_for_ever_behind_a_stream_of_a_loaded_model() -> None:
    waiting = {"old": job("old", "b")}
    for turn in range(10 * MAX_OVERTAKES):
        waiting[f"new{turn}"] = job(f"new{turn}", "a")
        [choice] = assign(queue(*waiting.values()), [worker("n", loaded="a")])
        del waiting[choice.job_id]
        if choice.job_id == "old":
            assert turn <= MAX_OVERTAKES
            return
        for passed in choice.passed_over:
            before = waiting[passed]
            waiting[passed] = job(passed, before.model, overtaken=before.overtaken + 1)
    raise AssertionError("the old job was starved")


def test_a_long_queue_is_read_no_further_than_the_lookahead() -> None:
    read = 0

    def candidates(_: Worker) -> Iterable[WaitingJob]:
        nonlocal read
        for number in range(1_000_000):
            read += 1
            yield job(str(number), "b")

    assert assign(candidates, [worker("n", loaded="a")])[0].job_id == "0"
    assert read <= LOOKAHEAD + 1


JOBS = st.lists(
    st.builds(
        WaitingJob, id=st.uuids().map(str), job_type=st.sampled_from(["image_gen", "training"]), model=st.sampled_from(MODELS),
        priority=st.integers(-10, 10), overtaken=st.integers(0, 40), avoid=st.sampled_from([None, "n0", "n1"]),
    ),
    unique_by=lambda each: each.id, max_size=60,
)  # fmt: skip
WORKERS = st.lists(
    st.tuples(st.sampled_from([None, *MODELS]), st.sets(st.sampled_from(MODELS))), max_size=6
).map(lambda found: [worker(f"n{i}", loaded, models) for i, (loaded, models) in enumerate(found)])  # fmt: skip


@given(JOBS, WORKERS)
def test_what_holds_for_every_decision(jobs: list[WaitingJob], workers: list[Worker]) -> None:
    choices = assign(queue(*jobs), workers)
    by_id = {each.id: each for each in jobs}
    nodes = {each.node_id: each for each in workers}
    assert choices == assign(queue(*jobs), workers), "the same input gives the same answer"
    assert len({each.job_id for each in choices}) == len(choices), "a job goes to one node"
    assert len({each.node_id for each in choices}) == len(choices), "a node gets one job"
    given_away: set[str] = set()
    for choice in choices:
        chosen = by_id[choice.job_id]
        assert can_serve(chosen, nodes[choice.node_id])
        left = [each for each in jobs if each.id not in given_away and can_serve(each, nodes[choice.node_id])]
        assert chosen.priority == max(each.priority for each in left), "priority is absolute"
        assert all(by_id[passed].priority == chosen.priority for passed in choice.passed_over)
        given_away.add(choice.job_id)
    idle = set(nodes) - {each.node_id for each in choices}
    for node in idle:
        assert not [each for each in jobs if each.id not in given_away and can_serve(each, nodes[node])], "no node idles beside work"


def test_why_impossible_says_what_is_missing() -> None:
    workers = [worker("n", models=["a"], cluster="vision")]
    assert why_impossible(job("1"), []) is not None
    assert why_impossible(job("1", "a"), workers) is None
    assert "'b'" in str(why_impossible(job("1", "b"), workers))
    assert "training" in str(why_impossible(WaitingJob("1", "training", None), workers))
    assert "heun" in str(why_impossible(job("1", "a", sampler="heun"), workers))
    assert "'night'" in str(why_impossible(job("1", "a", cluster="night"), workers))

"""What the rule promises whatever comes: priorities, a bound on overtakes, fairness between callers, and who may take what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scheduling.traces import Traffic
from fleet_api.scheduling import smart
from fleet_api.scheduling.forecast import forecast
from fleet_api.scheduling.simulation.events import SimJob, SimNode, Start, run
from fleet_api.scheduling.simulation.policies import Smart
from fleet_api.scheduling.simulation.trace import Arrival
from fleet_api.scheduling.smart import decide, overtakes_allowed
from fleet_api.scheduling.types import Assignment, Load, Skills, WaitingJob, Worker
from fleet_api.scheduling.waiting import Tier, WaitingQueue

KIND = "image_gen"
SWITCH = 30.0
SKILLS = Skills(frozenset({KIND, "custom"}), frozenset("ABCD"), frozenset({"euler"}), frozenset({"style"}))

traces = st.lists(
    st.builds(
        Arrival,
        at=st.integers(0, 200).map(float),
        model=st.sampled_from("AAABBC"),
        seconds=st.sampled_from([0.5, 2.0, 8.0, 20.0]),
        priority=st.sampled_from([0, 0, 10]),
    ),
    min_size=2,
    max_size=60,
).map(lambda jobs: sorted(jobs, key=lambda job: job.at))


def worker(name: str, model: str | None = None, speed: float = 1.0, switch: float = SWITCH, **more: object) -> Worker:
    given: dict[str, object] = {"skills": SKILLS, "sort": speed, "switch": lambda _: switch, "speed": lambda _: speed, **more}
    return Worker(name, model=model, **given)  # type: ignore[arg-type]


def queue_of(*jobs: WaitingJob) -> WaitingQueue:
    queue = WaitingQueue(began=0.0)
    for job in jobs:
        queue.add(job, job.since, SWITCH)
    return queue


def jobs_of(number: int, model: str | None = "A", start: int = 0, kind: str = KIND, caller: str = "") -> list[WaitingJob]:
    """Return jobs of 8 s that came one after the other at 0 s."""
    ages = range(start, start + number)
    return [WaitingJob(f"{model}{age}", kind, model, caller=caller, order=(True, age), work=8.0) for age in ages]


def given_to(queue: WaitingQueue, workers: Sequence[Worker], now: float = 0.0) -> dict[str, str]:
    """Return which node is given which job or model now."""
    return {each.node_id: each.job.id if isinstance(each, Assignment) else f"load {each.model}" for each in decide(queue, workers, now)}


class Watched(Smart):
    """The rule, with what it starts compared with what waits."""

    def begin(self, nodes: Sequence[SimNode], switch_seconds: float) -> None:
        super().begin(nodes, switch_seconds)
        self.waiting: dict[int, SimJob] = {}
        self.overtaken: dict[int, int] = {}
        self.most = 0

    def arrive(self, job: SimJob, now: float) -> None:
        super().arrive(job, now)
        self.waiting[job.number] = job
        self.overtaken[job.number] = 0

    def decide(self, now: float) -> Iterator[Start]:
        for number in self.waiting:
            assert self._queue.overtaken(str(number)) == self.overtaken[number]
        for start in super().decide(now):
            if start.job is not None:
                self._started(start.node, start.job)
            yield start

    def _started(self, node: SimNode, job: SimJob) -> None:
        del self.waiting[job.number]
        for other in self.waiting.values():
            if node.model == job.model:
                assert not (other.priority > job.priority and other.model == node.model), "a higher one that this node had the model for"
            if other.priority == job.priority and other.number < job.number:
                self.overtaken[other.number] += 1
        self.most = max(self.most, *self.overtaken.values())


@settings(max_examples=100, deadline=None)
@given(jobs=traces, nodes=st.integers(1, 4), per_node=st.sampled_from([1, 3, 32]))
def test_priorities_are_absolute_and_overtakes_bounded(jobs: list[Arrival], nodes: int, per_node: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smart, "OVERTAKES_PER_NODE", per_node)
        watched = Watched()
        run(jobs, [1.0] * nodes, SWITCH, watched)
        assert watched.most <= overtakes_allowed(nodes)


@pytest.mark.parametrize("per_node", [1, 2, 5])
@pytest.mark.parametrize("load", [Traffic(10, 6, 0.6, bursts=True), Traffic(3, 3, 0.6), Traffic(10, 20, 0.7)], ids=lambda load: load.name)
def test_the_bound_holds_when_many_jobs_wait(load: Traffic, per_node: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart, "OVERTAKES_PER_NODE", per_node)
    watched = Watched()
    run(load.trace(seed=1, jobs=600), [1.0] * load.nodes, SWITCH, watched)
    assert 0 < watched.most <= overtakes_allowed(load.nodes)


def test_an_overtaken_job_goes_next_when_it_was_overtaken_as_often_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    # One node with A, and A without end. B came first; 5 of A may pass it.
    monkeypatch.setattr(smart, "OVERTAKES_PER_NODE", 5)
    queue = queue_of(*jobs_of(1, "B"), *jobs_of(50, "A", start=1))
    starts = forecast(queue, [worker("n", "A")], 0.0)
    assert sum(start < starts["B0"] for start in starts.values()) == 5


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_overtakes_are_counted_as_one_counts_them(data: st.DataObject) -> None:
    tier = Tier(0)
    ages = count()
    waiting: dict[str, WaitingJob] = {}
    away: list[WaitingJob] = []
    passed: dict[str, int] = {}
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["come", "come", "front", "back", "start", "start", "cancel"]))
        if step in ("come", "front"):
            age = next(ages)
            job = WaitingJob(str(age), KIND, "A", order=(step == "come", age))
        elif step == "back":
            if not away:
                continue
            job = away.pop(data.draw(st.integers(0, len(away) - 1)))
        else:
            if not waiting:
                continue
            job = waiting.pop(data.draw(st.sampled_from(sorted(waiting))))
            tier.left(job, started=step == "start")
            if step == "start":
                for other in waiting.values():
                    passed[other.id] += other.order < job.order
            away.append(job)
            continue
        waiting[job.id] = job
        passed[job.id] = 0
        tier.came(job)
        assert {each.id: tier.overtaken(each) for each in waiting.values()} == {each: passed[each] for each in waiting}
    assert {each.id: tier.overtaken(each) for each in waiting.values()} == {each: passed[each] for each in waiting}


@pytest.mark.parametrize("nodes", [1, 4])
def test_ten_thousand_jobs_of_one_caller_do_not_starve_one_of_another(nodes: int) -> None:
    queue = queue_of(*jobs_of(10_000, caller="many"), *jobs_of(1, start=10_000, caller="one"))
    workers = [worker(str(number), "A") for number in range(nodes)]
    before = 0
    for _ in range(5):
        for each in decide(queue, workers, 0.0):
            assert isinstance(each, Assignment)
            if each.job.caller == "one":
                assert before <= nodes
                return
            before += 1
            queue.remove(each.job.id, started=0.0)
        for each in workers:
            each.idle = True
    pytest.fail("it was not started")


@pytest.mark.parametrize("instant", [True, False])
def test_callers_share_a_node_across_kinds_of_jobs(instant: bool) -> None:
    # Jobs without a model, or nodes that need not load any: the other caller's only job is of another kind, and goes second.
    other = jobs_of(1, "B" if instant else None, start=1_000, caller="one", kind=KIND if instant else "custom")
    queue = queue_of(*jobs_of(1_000, "A" if instant else None, caller="many"), *other)
    starts = forecast(queue, [worker("n", "A", instant=instant, switch=0.0)], 0.0, limit=1_001)
    assert sum(start < starts[other[0].id] for start in starts.values()) <= 1


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_caller_whose_model_is_not_loaded_is_not_starved(nodes: int) -> None:
    other = jobs_of(1, "B", start=2_000, caller="one")
    queue = queue_of(*jobs_of(2_000, "A", caller="many"), *other)
    starts = forecast(queue, [worker(str(number), "A") for number in range(nodes)], 0.0, limit=2_001)
    assert sum(start < starts[other[0].id] for start in starts.values()) <= overtakes_allowed(nodes) + nodes


def test_many_callers_do_not_make_the_fleet_switch_for_each_job() -> None:
    # 100 callers, each with jobs of two models in turn: turns between callers come on top of the models, not instead of them.
    jobs = [
        WaitingJob(f"{caller} {number}", KIND, "AB"[number % 2], caller=str(caller), order=(True, caller + 100 * number), work=8.0)
        for caller in range(100)
        for number in range(4)
    ]
    workers = [worker("0", "A"), worker("1", "B")]
    queue = queue_of(*sorted(jobs, key=lambda job: job.order))
    starts = forecast(queue, workers, 0.0, limit=len(jobs))
    assert len(starts) == 400
    assert max(starts.values()) <= 200 * 8.0 * 1.25


def test_a_retry_avoids_the_node_where_it_failed() -> None:
    failed = WaitingJob("again", KIND, "A", avoid="bad", order=(True, 0))
    assert given_to(queue_of(failed), [worker("bad", "A"), worker("good", "A")]) == {"good": "again"}
    # The other one is at work: the job waits for it. Another job may have the node meanwhile.
    busy = worker("good", "A", idle=False, free_at=5.0)
    assert given_to(queue_of(failed, *jobs_of(1, start=1)), [worker("bad", "A"), busy]) == {"bad": "A1"}


@pytest.mark.parametrize(
    "rest", [[], [worker("other", "A", skills=Skills(frozenset({"custom"})))], [worker("barred", "A", barred="it is hot")]]
)
def test_a_retry_is_not_stuck_when_only_the_node_is_left_where_it_failed(rest: list[Worker]) -> None:
    failed = WaitingJob("again", KIND, "A", avoid="bad", order=(True, 0))
    assert given_to(queue_of(failed), [worker("bad", "A"), *rest]) == {"bad": "again"}
    loads = [step for step in decide(queue_of(failed), [worker("bad", "B"), *rest], 0.0) if isinstance(step, Load)]
    assert [step.node_id for step in loads] == ["bad"]


def test_a_pinned_job_goes_to_its_node_alone() -> None:
    queue = queue_of(WaitingJob("pinned", KIND, "A", node="b", order=(True, 0)))
    assert given_to(queue, [worker("a", "A"), worker("b", "B"), worker("c", "A")]) == {"b": "load A"}
    assert given_to(queue, [worker("a", "A"), worker("b", "A"), worker("c", "A")]) == {"b": "pinned"}
    assert given_to(queue, [worker("a", "A"), worker("c", "A")]) == {}


def test_a_job_of_a_cluster_goes_to_one_of_its_nodes() -> None:
    queue = queue_of(WaitingJob("job", KIND, "A", cluster="lab", order=(True, 0)))
    assert given_to(queue, [worker("a", "A"), worker("b", "B", cluster="attic"), worker("c", "A", cluster="lab")]) == {"c": "job"}
    assert given_to(queue, [worker("a", "A"), worker("b", "B", cluster="lab")]) == {"b": "load A"}


def test_a_job_goes_where_its_sampler_and_lora_are() -> None:
    bare = worker("a", "A", skills=Skills(frozenset({KIND}), frozenset("A")))
    for more in ({"sampler": "euler"}, {"loras": ("style",)}):
        job = WaitingJob("1", KIND, "A", order=(True, 0), **more)
        assert given_to(queue_of(job), [bare]) == {}
        assert given_to(queue_of(job), [bare, worker("b", "A")]) == {"b": "1"}


def test_a_barred_node_is_given_nothing() -> None:
    queue = queue_of(*jobs_of(4), *jobs_of(4, "B", start=4))
    hot = worker("hot", "A", barred="it is too hot")
    assert given_to(queue, [hot]) == {}
    assert set(given_to(queue, [hot, worker("b", "A")])) == {"b"}


def test_a_node_that_cannot_be_told_to_load_gets_the_job() -> None:
    assert given_to(queue_of(*jobs_of(1)), [worker("a", "B", loads=False)]) == {"a": "A0"}


def test_a_model_that_no_node_has_is_loaded_by_the_fastest_of_alike_nodes() -> None:
    workers = [worker("slow", speed=0.1), worker("fast"), worker("slower", speed=0.05)]
    assert given_to(queue_of(*jobs_of(1)), workers) == {"fast": "load A"}


def test_what_higher_priorities_take_leaves_the_lower_ones_their_jobs() -> None:
    low = WaitingJob("low", KIND, "A", priority=-10, order=(True, 0))
    assert given_to(queue_of(low, *jobs_of(1, start=1)), [worker("a", "A"), worker("b", "A")]) == {"a": "A1", "b": "low"}


def test_a_slow_node_leaves_to_the_fast_one_what_that_ends_earlier() -> None:
    # The fast node could do all three by 24, the slow one its first by 80.
    workers = [worker("slow", "A", speed=0.1), worker("fast", "A")]
    assert given_to(queue_of(*jobs_of(3)), workers) == {"fast": "A0"}
    # Of 30 the fast node does ten by 80.
    assert given_to(queue_of(*jobs_of(30)), [worker("slow", "A", speed=0.1), worker("fast", "A")]) == {"fast": "A0", "slow": "A1"}


def test_at_most_so_many_decisions_are_made_at_once() -> None:
    workers = [worker(str(number), "A") for number in range(100)]
    assert len(decide(queue_of(*jobs_of(200)), workers, 0.0)) == smart.MOST_AT_ONCE

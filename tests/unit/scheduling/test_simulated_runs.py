"""The simulator: small runs worked out by hand, and what holds for every run."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_api.scheduling.simulation.events import Bar, Policy, Run, SimJob, SimNode, Start, Stuck, Wake, run
from fleet_api.scheduling.simulation.gantt import gantt
from fleet_api.scheduling.simulation.policies import POLICIES, Fifo, Smart
from fleet_api.scheduling.simulation.report import latency, report
from fleet_api.scheduling.simulation.trace import Arrival

SVG = "{http://www.w3.org/2000/svg}"
THREE = [Arrival(0, "A", 10), Arrival(1, "B", 10), Arrival(2, "A", 10)]

arrivals = st.lists(
    st.builds(
        Arrival,
        at=st.one_of(st.integers(0, 60).map(float), st.floats(0, 300)),
        model=st.sampled_from("ABCD"),
        seconds=st.one_of(st.just(8.0), st.floats(0.1, 60)),
        priority=st.sampled_from([0, 0, 0, 10, -10]),
    ),
    min_size=1,
    max_size=40,
).map(lambda jobs: sorted(jobs, key=lambda job: job.at))
fleets = st.lists(st.sampled_from([1.0, 1.0, 0.5, 0.1, 3.0]), min_size=1, max_size=5)


def ends(jobs: list[Arrival], speeds: list[float], switch: float, policy: Policy) -> list[tuple[int, float]]:
    return [(job.node, job.ended) for job in run(jobs, speeds, switch, policy).jobs]


def test_first_come_first_served_loads_for_every_change() -> None:
    # A loads until 30 and runs until 40; B loads until 70, runs until 80; A loads again until 110.
    done = run(THREE, [1.0], 30.0, Fifo())
    assert [job.ended for job in done.jobs] == [40, 80, 120]
    assert (done.switches, done.makespan) == (3, 120)


def test_our_rule_does_what_is_loaded_first() -> None:
    # A loads until 30; both of A run until 50, then B loads until 80 and runs until 90.
    done = run(THREE, [1.0], 30.0, Smart())
    assert [job.ended for job in done.jobs] == [40, 90, 50]
    assert (done.switches, done.makespan) == (2, 90)


def test_two_nodes_take_a_model_each() -> None:
    # Node 0 loads A at 0 and runs from 30 to 40 and 50, node 1 loads B at 1 and runs from 31 to 41.
    assert ends(THREE, [1.0, 1.0], 30.0, Smart()) == [(0, 40), (1, 41), (0, 50)]
    # First come, first served: the A of 2 waits until 40 and finds node 0 with A.
    assert ends(THREE, [1.0, 1.0], 30.0, Fifo()) == [(0, 40), (1, 41), (0, 50)]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_first_load_costs_the_switch(policy: str) -> None:
    done = run([Arrival(5, "A", 8)], [2.0], 30.0, POLICIES[policy]())
    assert done.jobs[0].ended == 5 + 30 + 8 / 2
    assert done.switches == 1


@pytest.mark.parametrize("policy", POLICIES)
def test_a_higher_priority_goes_first(policy: str) -> None:
    # 0: A loads until 30 and the first runs until 40, as nothing is interrupted; then 10 before 0 before -10.
    jobs = [Arrival(0, "A", 10), Arrival(1, "A", 10, -10), Arrival(2, "A", 10), Arrival(31, "A", 10, 10)]
    assert [job.ended for job in run(jobs, [1.0], 30.0, POLICIES[policy]()).jobs] == [40, 70, 60, 50]


def test_a_faster_node_is_waited_for_when_it_ends_earlier() -> None:
    # Loads cost nothing. The two fast nodes run until 10. The slow one would take the third until 100: it waits for 10 instead.
    jobs = [Arrival(0, "A", 10)] * 3
    assert sorted(ends(jobs, [1.0, 1.0, 0.1], 0.0, Smart())) == [(0, 10), (0, 20), (1, 10)]
    assert sorted(ends(jobs, [1.0, 1.0, 0.1], 0.0, Fifo())) == [(0, 10), (1, 10), (2, 100)]


def test_a_slow_node_helps_when_the_fast_ones_have_much_to_do() -> None:
    # 40 jobs: the fast nodes need until 200 for them all, and the slow one ends its first at 100.
    found = ends([Arrival(0, "A", 10)] * 40, [1.0, 1.0, 0.1], 0.0, Smart())
    assert sum(node == 2 for node, _ in found) in (1, 2)
    assert max(end for _, end in found) <= 200


@settings(max_examples=150, deadline=None)
@given(jobs=arrivals, speeds=fleets, switch=st.sampled_from([0.0, 5.0, 30.0]), name=st.sampled_from(sorted(POLICIES)))
def test_every_job_ends_once_after_its_work_and_no_node_does_two_things(
    jobs: list[Arrival], speeds: list[float], switch: float, name: str
) -> None:
    done = run(jobs, speeds, switch, POLICIES[name](), bars=True)
    assert [job.number for job in done.jobs] == list(range(len(jobs)))
    work = [bar for bar in done.bars if not bar.load]
    assert len(work) == len(jobs)
    for job in done.jobs:
        assert job.started >= job.at
        taken = job.ended - job.started - job.seconds / speeds[job.node]
        assert taken == pytest.approx(0, abs=1e-6) or taken == pytest.approx(switch)
    for node in range(len(speeds)):
        own = sorted((bar for bar in done.bars if bar.node == node), key=lambda bar: (bar.begin, bar.end))
        assert all(one.end <= other.begin + 1e-9 for one, other in itertools.pairwise(own))
        models = [bar.model for bar in own if switch]
        assert all(one == other or bar.load for one, other, bar in zip(models, models[1:], own[1:], strict=False))
    assert done.makespan == max(job.ended for job in done.jobs)
    if switch:
        assert done.switches == sum(bar.load for bar in done.bars)


@settings(max_examples=150, deadline=None)
@given(jobs=arrivals, nodes=st.integers(1, 4))
def test_where_switches_cost_nothing_ours_is_first_come_first_served(jobs: list[Arrival], nodes: int) -> None:
    ours, plain = (run(jobs, [1.0] * nodes, 0.0, policy).jobs for policy in (Smart(), Fifo()))
    assert [job.started for job in ours] == [job.started for job in plain]


def test_the_report_is_what_one_counts_by_hand() -> None:
    # Nearest rank: of 1 to 200 the 50th percentile is the 100th value, the 95th the 190th, the 99th the 198th.
    found = latency([float(number) for number in range(200, 0, -1)])
    assert (found.jobs, found.mean_s, found.p50_s, found.p95_s, found.p99_s, found.max_s) == (200, 100.5, 100, 190, 198, 200)
    alone = latency([3.0])
    assert (alone.mean_s, alone.p50_s, alone.p99_s, alone.max_s) == (3, 3, 3, 3)
    # Of three the 50th percentile is the second, the 95th the third.
    three = latency([10.0, 1.0, 4.0])
    assert (three.mean_s, three.p50_s, three.p95_s) == (5, 4, 10)


def test_the_report_has_a_part_for_each_priority() -> None:
    jobs = [Arrival(0, "A", 10), Arrival(0, "A", 20, -10), Arrival(0, "A", 30, 10)]
    found = report(run(jobs, [1.0], 30.0, Fifo()))
    # 30 of loading, then 30 for the priority 10, 10 for 0, 20 for -10.
    assert list(found["priorities"]) == ["10", "0", "-10"]
    assert [each["max_s"] for each in found["priorities"].values()] == [60, 70, 90]
    assert (found["jobs"], found["mean_s"], found["switches"], found["makespan_s"]) == (3, pytest.approx(73.333), 1, 90)


def test_the_picture_has_a_bar_for_each_job_and_two_for_each_load() -> None:
    jobs = [Arrival(number * 40.0, f"<m{number % 3}>", 10) for number in range(9)]
    done = run(jobs, [1.0, 1.0], 30.0, Fifo(), bars=True)
    root = ElementTree.fromstring(gantt(done))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"node 1", "node 2", "<m0>", "<m1>", "<m2>", "loading"} <= set(texts)
    rows = [rect for rect in root.iter(f"{SVG}rect") if rect.get("height") == "14"]
    hatched = [rect for rect in rows if rect.get("fill") == "url(#load)"]
    assert len(hatched) == done.switches
    assert len(rows) == len(jobs) + 2 * done.switches
    assert len({rect.get("fill") for rect in rows}) == 3 + 1


def test_a_picture_of_very_many_jobs_stays_small() -> None:
    bars = [Bar(0, number, number + 1, "A", False) for number in range(20_000)]
    picture = gantt(Run([], 1, makespan=20_000.0, bars=bars))
    ElementTree.fromstring(picture)
    assert len(picture) < 200_000


class _Scripted:
    """A policy that does what it is told, whatever that is."""

    def __init__(self, *steps: tuple[int, str, int | None]) -> None:
        self._steps = list(steps)

    def begin(self, nodes: list[SimNode], switch_seconds: float) -> None:
        self._nodes = nodes
        self._jobs: list[SimJob] = []

    def arrive(self, job: SimJob, now: float) -> None:
        self._jobs.append(job)

    def decide(self, now: float) -> Iterable[Start | Wake]:
        for node, model, job in self._steps:
            yield Start(self._nodes[node], model, None if job is None else self._jobs[job])
        self._steps = []


def test_a_policy_that_leaves_jobs_for_ever_is_told_so() -> None:
    with pytest.raises(Stuck, match="2 jobs"):
        run([Arrival(0, "A", 1), Arrival(0, "A", 1)], [1.0], 0.0, _Scripted())  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [[(0, "A", 0), (0, "A", 1)], [(0, "B", 0)], [(0, "A", None), (0, "A", 0)], [(0, "A", 0), (1, "A", 0)]])
def test_a_policy_cannot_cheat(steps: list[tuple[int, str, int | None]]) -> None:
    with pytest.raises(ValueError, match="cannot do"):
        run([Arrival(0, "A", 1), Arrival(0, "A", 1)], [1.0, 1.0], 0.0, _Scripted(*steps))  # type: ignore[arg-type]

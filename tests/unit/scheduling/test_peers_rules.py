"""The peers' rules in the benchmark, on traces small enough to be worked out by hand. A switch takes 30 s."""

from __future__ import annotations

import pytest

from benchmarks.scheduling.ai_horde import AiHorde
from benchmarks.scheduling.compare import RULES, beside_best, summary
from benchmarks.scheduling.invokeai import LOOK_AHEAD, InvokeAi
from benchmarks.scheduling.lanes import Lanes
from benchmarks.scheduling.localai import LocalAi
from benchmarks.scheduling.swarmui import SwarmUi
from benchmarks.scheduling.traces import TRACES, WIDER, Traffic
from fleet_api.scheduling.simulation.events import Policy, SimJob, run
from fleet_api.scheduling.simulation.trace import Arrival

Jobs = list[tuple[float, str, float]]
"""(arrival in seconds, model, seconds of work)"""


def starts(policy: Policy, nodes: int, jobs: Jobs, switch: float = 30.0) -> list[tuple[int, float]]:
    """Node and second of the start of each job; a load that belongs to the job begins then."""
    done = run([Arrival(*each) for each in jobs], [1.0] * nodes, switch, policy)
    return [(job.node, job.started) for job in done.jobs]


def test_ai_horde_takes_its_own_model_first_and_else_the_oldest() -> None:
    # 0: A loads and runs until 40. 40: A again, until 50, although B is older. 50: B, the oldest left.
    jobs: Jobs = [(0, "A", 10), (1, "B", 10), (2, "A", 10), (3, "C", 10)]
    assert starts(AiHorde(), 1, jobs) == [(0, 0), (0, 50), (0, 40), (0, 90)]


def test_ai_hordes_own_model_has_no_bound() -> None:
    # B waits for all 40 of A: these run from 31 (a load and a second) to 71.
    jobs: Jobs = [(0, "A", 1), (0, "B", 1)] + [(0, "A", 1)] * 40
    found = starts(AiHorde(), 1, jobs)
    assert found[1] == (0, 71)
    assert found[2:] == [(0, 31 + number) for number in range(40)]


def test_of_ai_hordes_idle_workers_the_one_longest_idle_asks_first() -> None:
    # Node 0 is idle from 40, node 1 from 50. 60: C goes to node 0 and puts A out, so that the A of 61 must load on node 1.
    jobs: Jobs = [(0, "A", 10), (0, "B", 20), (60, "C", 5), (61, "A", 5)]
    assert starts(AiHorde(), 2, jobs) == [(0, 0), (1, 0), (0, 60), (1, 61)]


def test_invokeai_looks_32_numbers_ahead_of_the_oldest() -> None:
    # B is number 1; A's numbers 2 to 33 may pass it, from 31 to 63. Then B loads and runs until 94, then 34 loads again.
    jobs: Jobs = [(0, "A", 1), (0, "B", 1)] + [(0, "A", 1)] * 40
    found = starts(InvokeAi(), 1, jobs)
    assert LOOK_AHEAD == 32
    assert found[2:34] == [(0, 31 + number) for number in range(32)]
    assert found[1] == (0, 63)
    assert found[34:] == [(0, 94 if number == 0 else 124 + number) for number in range(8)]


def test_an_invokeai_device_does_not_wait_for_another_that_has_the_model() -> None:
    # Node 0: A until 40, A again until 50; then the oldest is B, which it loads, although node 1 with B would be free at 55.
    jobs: Jobs = [(0, "A", 10), (0, "B", 25), (1, "A", 10), (2, "B", 10)]
    assert starts(InvokeAi(), 2, jobs) == [(0, 0), (1, 0), (0, 40), (0, 50)]


def test_invokeai_counts_the_bound_from_the_oldest_that_still_waits() -> None:
    # 31: number 1 (B) is the oldest, A's number 34 is beyond 33: B. 62: C, number 2, is the oldest; A is not loaded. 93: A.
    jobs: Jobs = [(0, "A", 1), (0, "B", 1), (0, "C", 1)] + [(0, "B", 1)] * 31 + [(0, "A", 1)]
    found = starts(InvokeAi(), 1, jobs)
    assert found[1] == (0, 31)
    # 62: B is loaded and C, number 2, the oldest: B's numbers 3 to 33 are within 34 and go first, 31 of them, until 93.
    assert found[3:34] == [(0, 62 + number) for number in range(31)]
    assert found[2] == (0, 93)
    assert found[34] == (0, 124)


def test_localai_never_loads_a_second_copy() -> None:
    # All four go to node 0 one after the other: until 40, 50, 60, 70. Node 1 stays empty for the B of 1.
    jobs: Jobs = [(0, "A", 10)] * 4 + [(1, "B", 10)]
    assert starts(LocalAi(), 2, jobs) == [(0, 0), (0, 40), (0, 50), (0, 60), (1, 1)]


def test_localai_evicts_what_was_used_longest_ago() -> None:
    # A ends at 35 on node 0, B at 45 on node 1. 60: C puts A out. 61: A puts B out, the only idle one. 62: B waits for node 1, 96.
    jobs: Jobs = [(0, "A", 5), (0, "B", 15), (60, "C", 60), (61, "A", 5), (62, "B", 5)]
    assert starts(LocalAi(), 2, jobs) == [(0, 0), (1, 0), (0, 60), (1, 61), (1, 96)]


def test_localai_evicts_no_model_with_jobs_in_flight() -> None:
    # 40: B waits on, as two A are bound to the node already; they run until 60.
    jobs: Jobs = [(0, "A", 10), (1, "B", 10), (2, "A", 10), (38, "A", 10)]
    assert starts(LocalAi(), 1, jobs) == [(0, 0), (0, 60), (0, 40), (0, 50)]


def test_swarmui_loads_at_once_when_one_backend_is_free() -> None:
    # Loading is apart from the job: it starts when its model is there.
    assert starts(SwarmUi(), 1, [(0, "A", 10)]) == [(0, 30)]


def test_swarmui_waits_a_second_and_a_half_when_several_backends_are_free() -> None:
    # The load begins at 1.5. The B of 1 finds one free backend then, so that it is loaded at once: 1.5 too.
    assert starts(SwarmUi(), 2, [(0, "A", 10)]) == [(0, 31.5)]
    assert starts(SwarmUi(), 2, [(0, "A", 10), (1, "B", 10)]) == [(0, 31.5), (1, 31.5)]


def test_swarmui_gives_a_backend_one_job_more_than_it_runs() -> None:
    # 31.5: node 0 runs the first and holds the second; the third finds no place, and node 1, free, loads A until 61.5.
    # 41.5: the second runs, so there is a place for the third on node 0, which runs it at 51.5; node 1 has loaded in vain.
    assert starts(SwarmUi(), 2, [(0, "A", 10)] * 3) == [(0, 31.5), (0, 41.5), (0, 51.5)]


def test_swarmuis_over_queue_takes_the_backend_that_holds_least() -> None:
    # Node 0 has A from 31.5 and holds two, so node 1 loads A from 31.5 to 61.5. 61.5: the fourth, left over, starts there.
    jobs: Jobs = [(0, "A", 40)] * 4
    # Node 0: the first until 71.5, then the second. 61.5: node 1 takes the third and holds the fourth.
    assert starts(SwarmUi(), 2, jobs) == [(0, 31.5), (0, 71.5), (1, 61.5), (1, 101.5)]


@pytest.mark.parametrize(
    ("c_since", "expected"),
    [
        # 30: A starts, and the node can be reserved. B: 10 + 29. C: 2 * 10 + 25, so C: loaded at 40, run at 70 and 75. B was reserved
        # for at 75, when one C was left to run: loaded at 80, run at 110.
        (5, [(0, 30), (0, 110), (0, 70), (0, 75)]),
        # B: 10 + 29. C: 2 * 10 + 14, so B: loaded at 40, run at 70. C loaded at 75, run at 105 and 110.
        (16, [(0, 30), (0, 70), (0, 105), (0, 110)]),
    ],
)
def test_swarmuis_pressure_is_ten_a_job_and_one_a_second(c_since: float, expected: list[tuple[int, float]]) -> None:
    assert starts(SwarmUi(), 1, [(0, "A", 10), (1, "B", 5), (c_since, "C", 5), (c_since, "C", 5)]) == expected


def test_a_reserved_swarmui_backend_takes_no_more() -> None:
    # 31: the B of 31 has waited 1.5 s at 32.5 and reserves the node, which runs A until 40; the A of 35 waits for B, 70 to 75, and a load.
    assert starts(SwarmUi(), 1, [(0, "A", 10), (31, "B", 5), (35, "A", 5)]) == [(0, 30), (0, 70), (0, 105)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("load", [*TRACES, *WIDER], ids=lambda load: load.name)
def test_every_rule_ends_every_trace(rule: str, load: Traffic) -> None:
    trace = load.trace(seed=7, jobs=150)
    done = run(trace, [1.0] * load.nodes, 30.0, RULES[rule]())
    assert all(job.ended > job.started >= job.at and 0 <= job.node < load.nodes for job in done.jobs)
    assert done.switches >= len({job.model for job in trace})


def test_a_trace_is_its_seeds() -> None:
    load = TRACES[-1]
    assert load.trace(1, 500) == load.trace(1, 500)
    assert load.trace(1, 500) != load.trace(2, 500)
    assert load.bursts
    assert max(sum(other.at == each.at for other in load.trace(1, 500)) for each in load.trace(1, 500)[:200]) == 25


@pytest.mark.parametrize("load", TRACES, ids=lambda load: load.name)
def test_a_traces_load_is_what_it_says(load: Traffic) -> None:
    trace = load.trace(1, 20_000)
    work = sum(each.seconds for each in trace)
    assert work / (trace[-1].at * load.nodes) == pytest.approx(load.load, rel=0.06)


def test_lanes_know_the_oldest() -> None:
    lanes = Lanes()
    for number, model in enumerate("BABC"):
        lanes.add(SimJob(number, 0.0, model, 1.0, 0))
    assert lanes.models() == ["B", "A", "C"]
    assert lanes.take("B").number == 0
    assert lanes.oldest().model == "A"
    assert lanes.oldest_of("D") is None
    assert lanes.oldest_of(None) is None
    assert [lanes.take(model).number for model in "ABC"] == [1, 2, 3]
    assert not lanes


def test_the_best_peer_is_found_for_each_figure() -> None:
    def figures(mean: float, p99: float) -> dict[str, float]:
        return {"mean_s": mean, "p99_s": p99, "work_p99_s": 30.0}

    row = {
        "smart": figures(20, 60),
        "fifo": figures(1, 1),  # counts as none of the peers
        "SwarmUI": figures(50, 120),
        "AI-Horde": figures(40, 200),
        "InvokeAI": figures(80, 300),
        "LocalAI": figures(70, 150),
    }
    free = {"one": {"fifo": figures(10, 40)}, "other": {"fifo": figures(10, 40)}}
    assert beside_best(row, "mean_s") == {"best_peer": "AI-Horde", "best_s": 40, "ratio": 0.5}
    assert beside_best(row, "p99_s") == {"best_peer": "SwarmUI", "best_s": 120, "ratio": 0.5}
    twice = summary({"one": row, "other": {**row, "smart": figures(80, 30)}}, free)
    assert twice["geometric_means"] == {"mean_s": 1.0, "p99_s": 0.354}  # sqrt(0.5 * 2), sqrt(0.5 * 0.25)
    assert twice["p99_floors"] == {"work": 0.25, "free": 0.333}

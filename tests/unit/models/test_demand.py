"""Which node is to fetch what."""

from __future__ import annotations

from fleet_api.models.demand import Need, distribute, needs
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.models import Node
from fleet_api.scheduling.types import Skills, WaitingJob
from fleet_api.scheduling.waiting import WaitingQueue
from gpu_inference.protocol import Capabilities, FetchingItem, LoraInfo, ModelInfo

NIGHT = ("lora", "night")


def node(name: str, loras: tuple[str, ...] = (), fetching: str = "", busy: bool = False) -> LiveNode:
    made = LiveNode.from_row(Node(id=name, hostname=name, machine_id=name, ip="", created_at=0, capabilities={}, metrics={}, facts={}))
    made.offers = Skills(models=frozenset({"big"}), loras=frozenset({"night"}))
    made.learn(
        Capabilities(
            job_types=["image_gen"], models=[ModelInfo(name="own")], samplers=["euler"], fetches=True,
            loras=[LoraInfo(name=each, base_model="own") for each in loras],
        )
    )  # fmt: skip
    if fetching:
        made.cache.fetching = [FetchingItem(type="lora", name=fetching)]
    if busy:
        made.jobs["j"] = 1
    return made


def job(number: int, lora: str | None = "night", model: str = "own", at: str | None = None) -> WaitingJob:
    return WaitingJob(str(number), "image_gen", model, loras=(lora,) if lora else (), node=at, order=(True, number))


def queue(*jobs: WaitingJob) -> WaitingQueue:
    made = WaitingQueue(0.0)
    for each in jobs:
        made.add(each, 0.0)
    return made


def wanted(waiting: WaitingQueue, nodes: list[LiveNode], *failing: str) -> dict[str, list[tuple[str, str]]]:
    found = needs(waiting, frozenset({NIGHT, ("checkpoint", "big")}))
    return distribute(found, nodes, lambda each: True, lambda each, key: each.id in failing)


def test_as_many_nodes_as_jobs() -> None:
    nodes = [node("a"), node("b"), node("c")]
    assert wanted(queue(job(1)), nodes) == {"a": [NIGHT]}
    assert wanted(queue(job(1), job(2)), nodes) == {"a": [NIGHT], "b": [NIGHT]}
    assert set(wanted(queue(*(job(number) for number in range(9))), nodes)) == {"a", "b", "c"}
    assert wanted(queue(job(1, lora=None)), nodes) == {}


def test_who_has_it_or_fetches_it_comes_first_and_then_who_has_nothing_to_do() -> None:
    assert wanted(queue(job(1)), [node("a"), node("b", loras=("night",))]) == {}
    assert wanted(queue(job(1)), [node("a"), node("b", fetching="night")]) == {"b": [NIGHT]}
    assert wanted(queue(job(1)), [node("a", busy=True), node("b")]) == {"b": [NIGHT]}


def test_a_job_for_one_node_is_fetched_for_there() -> None:
    assert wanted(queue(job(1, at="b")), [node("a"), node("b")]) == {"b": [NIGHT]}


def test_a_node_where_it_failed_is_passed_over() -> None:
    assert wanted(queue(job(1)), [node("a"), node("b")], "a") == {"b": [NIGHT]}


def test_a_job_may_want_a_model_and_a_lora() -> None:
    assert wanted(queue(job(1, model="big")), [node("a")]) == {"a": [("checkpoint", "big"), NIGHT]}


def test_what_stands_for_a_lane_is_one_need() -> None:
    [need] = needs(queue(job(1), job(2)), frozenset({NIGHT}))
    assert isinstance(need, Need)
    assert (need.keys, need.jobs) == (frozenset({NIGHT}), 2)

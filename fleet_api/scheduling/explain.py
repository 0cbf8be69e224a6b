"""Why a job waits, in words."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_api.scheduling.condition import lacks_memory, short_of
from fleet_api.scheduling.eligibility import can_serve, could_serve, why_impossible
from fleet_api.scheduling.smart import overtakes_allowed
from fleet_api.scheduling.types import WaitingJob, Worker
from fleet_api.scheduling.waiting import WaitingQueue

NAMED = 3
"""So many nodes are named; the rest are counted."""


def explain(queue: WaitingQueue, job: WaitingJob, workers: Sequence[Worker], now: float, starts_in: float | None) -> str:
    """Return some sentences: who could take the job, what each of them does, who has the model, and what is ahead."""
    impossible = why_impossible(job, workers)
    if impossible is not None:
        return impossible
    able = [worker for worker in workers if can_serve(job, worker)]
    if not able:
        coming = [worker.node_id for worker in workers if could_serve(job, worker)]
        more = f" and {len(coming) - NAMED} more" if len(coming) > NAMED else ""
        what = f"the model {job.model!r}" + (f" with the LoRA {', '.join(map(repr, job.loras))}" if job.loras else "")
        return f"No node has {what} yet; it is fetched from the model store by one of {', '.join(coming[:NAMED])}{more}."
    barred = [worker for worker in able if worker.barred is not None]
    there = [worker for worker in able if worker.barred is None]
    sentences = [_barred(worker) for worker in barred[:NAMED]]
    if not there:
        return " ".join([*sentences, "No other node could take it; it waits until one of them can."])
    sentences.append(_ahead(queue, job))
    if job.model is not None:
        sentences.append(_model(job, there, now))
    if job.avoid is not None and len(there) > 1:
        sentences.append(f"It failed on {job.avoid}, so another node is to try it.")
    overtaken, limit = queue.overtaken(job.id), overtakes_allowed(sum(worker.barred is None for worker in workers))
    if overtaken:
        sentences.append(f"It was overtaken {overtaken} times; after {limit} it goes next.")
    if starts_in is not None:
        sentences.append(f"It should start in about {starts_in:.0f} s." if starts_in >= 1 else "It should start at once.")
    return " ".join(sentences)


def _barred(worker: Worker) -> str:
    return f"Node {worker.node_id} is given nothing: {worker.barred}."


def _ahead(queue: WaitingQueue, job: WaitingJob) -> str:
    tier = queue.tier(job.priority)
    place = tier.by_age.bisect_left(job.order) if tier is not None else 0
    above = sum(len(other.by_age) for other in queue.tiers() if other.priority > job.priority)
    higher = {0: "", 1: "One job of a higher priority waits. "}.get(above, f"{above} jobs of a higher priority wait. ")
    older = {0: "No job of its own priority is older", 1: "One older job of its priority waits"}.get(place)
    return f"{higher}{older or f'{place} older jobs of its priority wait'}."


def _model(job: WaitingJob, there: Sequence[Worker], now: float) -> str:
    having = [worker for worker in there if worker.model == job.model]
    if having:
        named = ", ".join(f"{worker.node_id} ({_state(worker, now)})" for worker in having[:NAMED])
        more = f" and {len(having) - NAMED} more" if len(having) > NAMED else ""
        return f"Its model {job.model} is on {named}{more}; another node loads it only when that shortens the whole queue."
    short = [worker for worker in there if lacks_memory(worker, job.model)]
    there = [worker for worker in there if worker not in short]
    if not there and job.model is not None:
        named = "; ".join(short_of(worker, job.model) for worker in short[:NAMED])
        return f"No node that could take it has room for its model {job.model}: {named}."
    soonest = min(there, key=lambda each: (0.0 if each.idle else each.free_at, each.switch(job.model) + job.work / each.speed(job.model)))
    seconds = soonest.switch(job.model)
    return f"No node has its model {job.model} loaded; {soonest.node_id} ({_state(soonest, now)}) would take {seconds:.0f} s to load it."


def _state(worker: Worker, now: float) -> str:
    note = f", {worker.note}" if worker.note else ""
    if worker.idle:
        return f"idle{note}"
    left = max(0.0, worker.free_at - now)
    return f"{'loading it' if worker.loading else 'at work'}, free in about {left:.0f} s{note}"

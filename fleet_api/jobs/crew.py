"""The nodes as the scheduler sees them: who is idle, who is loading what, and what loads and jobs took.

Changed by what agents say and by what they are given; one instance a process, used on the event loop only.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from fleet_api.jobs.images import lora_names
from fleet_api.jobs.models import Job
from fleet_api.kit.clock import Clock
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.scheduling.costs import PARKED, Costs, shape_of
from fleet_api.scheduling.types import Worker

log = structlog.get_logger()

WARM = "warm"
"""Where a model came from that was loaded already; nothing is learnt of how long that took."""

BACK_SOON = 0.5
"""Seconds after which an agent that was not given anything asks again."""


class Crew:
    """Keeps every node's :class:`fleet_api.scheduling.types.Worker` true."""

    def __init__(self, nodes: NodeService, costs: Costs, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._loading: dict[str, tuple[str, float, str]] = {}
        self._within: dict[str, str] = {}
        self._power_modes: dict[str, object] = {}
        self.costs = costs

    def workers(self) -> list[Worker]:
        """Return the agents that are online, with what bars them."""
        now = self._clock.monotonic()
        online = [node for node in self._nodes.all() if node.online and node.row.credential_hash]
        for node in online:
            node.worker.barred = node.barred(now)
            node.worker.room, node.worker.note = node.room, node.note
            node.worker.contiguous = node.metrics.free_contiguous_mib
        return [node.worker for node in online]

    def every(self) -> list[Worker]:
        """Return all enrolled agents; one that is offline is barred by that."""
        self.workers()
        enrolled = [node for node in self._nodes.all() if node.row.credential_hash]
        for node in enrolled:
            if not node.online:
                node.worker.barred = "it is offline"
        return [node.worker for node in enrolled]

    def asks(self, node: LiveNode) -> None:
        """The agent asks for work: whatever it was given before is done with."""
        worker, now = node.worker, self._clock.monotonic()
        worker.switch = lambda model, of=node: self._switch(of, model)  # type: ignore[misc]
        worker.speed = lambda model, of=node: self.costs.speed(of.id, model) / of.slowed  # type: ignore[misc]
        for model in node.capabilities.models:
            self.costs.size(model.name, model.size_bytes)
        mode = node.row.facts.get("power_mode")
        if self._power_modes.setdefault(node.id, mode) != mode:
            self._power_modes[node.id] = mode
            self.costs.forget(node.id)
        loading = self._loading.pop(node.id, None)
        if loading is not None:
            self._loaded(node, *loading)
        worker.model = node.loaded_model
        worker.idle, worker.loading, worker.free_at = True, False, now
        if node.wish is not None and node.wish == node.loaded_model:
            node.wish = None

    def pauses(self, node: LiveNode) -> None:
        """The agent's poll has ended with nothing; it will ask again."""
        if node.worker.idle:
            node.worker.idle, node.worker.free_at = False, self._clock.monotonic() + BACK_SOON

    def loads(self, node: LiveNode, model: str) -> None:
        """The agent was told to load a model."""
        now = self._clock.monotonic()
        self._loading[node.id] = model, now, _source(node, model)
        worker = node.worker
        worker.model, worker.idle, worker.loading, worker.free_at = model, False, True, now + worker.switch(model)

    def starts(self, node: LiveNode, jobs: Sequence[Job]) -> None:
        """The agent was given a job, and maybe companions of it."""
        worker, now, job = node.worker, self._clock.monotonic(), jobs[0]
        delay = 0.0 if job.model in (None, node.loaded_model) else worker.switch(job.model)
        self._within[node.id] = PARKED if job.model in worker.parked else "disk"
        worker.idle, worker.loading = False, False
        worker.free_at = now + delay + sum(self.costs.seconds(node.id, shape_of(each.model, each.payload)) for each in jobs) * node.slowed
        if job.model not in (None, node.loaded_model):
            worker.model, worker.loaded_at = job.model, now + delay
        worker.applied = lora_names(job.payload)

    def ran(self, node: LiveNode, job: Job, seconds: float) -> None:
        """A job of the node was completed; it took so long, loading not counted: of a batch its part of the whole.

        What heat added is not learnt: it passes.
        """
        node.well()
        self.costs.ran(node.id, shape_of(job.model, job.payload), seconds / node.slowed)

    def loaded(self, node_id: str, model: str | None, seconds: float) -> None:
        """A node loaded a model within a job."""
        if model is not None:
            self.costs.loaded(node_id, model, seconds, self._within.get(node_id, "disk"))

    def went_wrong(self, node_id: str, what: str) -> None:
        """A job, or the load of a model, went wrong by the node's doing."""
        node = next((each for each in self._nodes.all() if each.id == node_id), None)
        if node is not None and node.fault(what, self._clock.monotonic()):
            log.warning("node_quarantined", node=node_id, faults=len(node.faulty))

    def _switch(self, node: LiveNode, model: str | None) -> float:
        """Return the seconds until the node has the model: none where it is loaded beside the present one."""
        source = _source(node, model)
        return 0.0 if source == WARM else self.costs.switch(node.id, model, source)

    def _loaded(self, node: LiveNode, model: str, since: float, source: str) -> None:
        now = self._clock.monotonic()
        if node.loaded_model == model:
            node.worker.loaded_at = now
            if source != WARM:
                self.costs.loaded(node.id, model, now - since, source)
            return
        log.warning("model_not_loaded", node=node.id, model=model)
        if model not in node.worker.unbuilt:  # which an operator has yet to build there
            self.went_wrong(node.id, f"{model} {now}")


def _source(node: LiveNode, model: str | None) -> str:
    """Return where a load on this node would come from: ``cold`` is the first after a start, with nothing of it in memory."""
    if model in node.worker.spare:
        return WARM
    if model in node.worker.parked:
        return PARKED
    return "cold" if node.loaded_model is None else "disk"

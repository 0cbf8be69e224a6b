"""What is known of a node right now, in memory; rebuilt from the table at start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleet_api.nodes.fitness import FAULTS_IN_A_ROW, quarantine_seconds, why_not
from fleet_api.nodes.models import Node
from fleet_api.nodes.states import shown
from fleet_api.scheduling.condition import slowed
from fleet_api.scheduling.types import Skills, Worker
from gpu_inference.protocol import BEAT_SECONDS, BUILDING, DRAINING, SERVING, CacheReport, Capabilities, Metrics, StoredKey

SILENT_SECONDS = 3 * BEAT_SECONDS
"""A node that missed three beats is offline."""

ROOM = 1.0
"""A model larger than this part of the node's memory is not given to it."""


@dataclass(slots=True)
class LiveNode:
    """A node's row, its last figures, and when it was last heard on the monotonic clock.

    ``loaded_model`` is what its agent last said; ``worker`` is the node as the scheduler sees it (``jobs/crew.py``); ``wish`` is a model
    that somebody told it to load. ``offers`` is what the model store has for it (models by ``offered_bytes``); ``cache`` is what it has
    of that, ``wanted`` what it is to fetch, and ``peer`` the address that it calls from.
    """

    row: Node
    capabilities: Capabilities
    metrics: Metrics
    worker: Worker
    loaded_model: str | None = None
    agent_state: str = "idle"
    heard: float | None = None
    last_seen: float | None = None
    online: bool = False
    jobs: dict[str, int] = field(default_factory=dict)
    saved_at: float = 0.0
    faulty: set[str] = field(default_factory=set)
    quarantined_until: float = 0.0
    quarantines: int = 0
    wish: str | None = None
    offers: Skills = field(default_factory=Skills)
    offered_bytes: dict[str, int] = field(default_factory=dict)
    cache: CacheReport = field(default_factory=CacheReport)
    wanted: list[StoredKey] = field(default_factory=list)
    peer: str = ""
    best_clock: float | None = None

    @classmethod
    def from_row(cls, row: Node) -> LiveNode:
        """Return the node as the table has it: offline until heard."""
        node = cls(
            row, Capabilities(), Metrics.model_validate(row.metrics), Worker(row.id, idle=False, sort=row.id), last_seen=row.last_seen
        )  # fmt: skip
        node.learn(Capabilities.model_validate(row.capabilities))
        node.renew(row)
        return node

    def renew(self, row: Node) -> None:
        """Take in the node's row."""
        self.row = row
        self.worker.cluster = row.cluster

    def learn(self, capabilities: Capabilities) -> None:
        """Take in what the node's agent can serve."""
        self.capabilities = capabilities
        self.worker.loads = capabilities.loads
        self.worker.needs = {model.name: model.needs_mib for model in capabilities.models if model.needs_mib}
        self.worker.skills = Skills(
            frozenset(capabilities.job_types),
            frozenset(model.name for model in capabilities.models if self._has_room(model.size_bytes)),
            frozenset(capabilities.samplers),
            frozenset(lora.name for lora in capabilities.loras),
        )
        self.worker.to_come = Skills()
        if capabilities.fetches:
            models = (name for name in self.offers.models if self._has_room(self.offered_bytes.get(name, 0)))
            self.worker.to_come = Skills(models=frozenset(models), loras=self.offers.loras)

    def has(self, loaded: str | None, warm: Iterable[str], parked: Iterable[str]) -> None:
        """Take in which models the node's agent says that it has: loaded, loaded beside it, and parked."""
        self.loaded_model = loaded
        self.worker.spare, self.worker.parked = frozenset(warm), frozenset(parked)

    def feel(self, metrics: Metrics) -> None:
        """Take in the node's figures."""
        self.metrics = metrics
        if metrics.gpu_clock_mhz and not metrics.throttled:
            self.best_clock = max(self.best_clock or 0.0, metrics.gpu_clock_mhz)

    @property
    def slowed(self) -> float:
        """How many times longer its jobs take because of heat."""
        return slowed(self.metrics.throttled, self.metrics.gpu_clock_mhz, self.best_clock)

    @property
    def room(self) -> float | None:
        """The memory that a model could have, in MiB, once what is loaded is let go; None where that is not known.

        What is parked takes nothing of it.
        """
        figures = self.metrics
        if figures.gpu_memory_total_mib:
            free = figures.gpu_memory_total_mib - figures.gpu_memory
        elif figures.memory_total_mib:
            free = figures.memory_total_mib * (1 - figures.memory / 100)
        else:
            return None
        return free + sum(self.worker.needs.get(name, 0.0) for name in {self.loaded_model or "", *self.worker.spare})

    @property
    def note(self) -> str:
        """What is worth saying of its condition: power mode and heat."""
        mode = self.row.facts.get("power_mode")
        heat = f"throttled by heat to {100 / self.slowed:.0f} % of its speed" if self.metrics.throttled else ""
        return ", ".join(part for part in (f"power mode {mode}" if mode else "", heat) if part)

    @property
    def memory(self) -> float:
        """The memory for models, in MiB: the GPU's own, else the machine's; 0 where that is not known."""
        return self.metrics.gpu_memory_total_mib or self.metrics.memory_total_mib

    def _has_room(self, size_bytes: int) -> bool:
        return not self.memory or size_bytes <= ROOM * self.memory * 2**20

    @property
    def id(self) -> str:
        """The node's id."""
        return self.row.id

    @property
    def status(self) -> str:
        """One of :data:`STATUSES`."""
        return shown(self.row.state, self.row.state_reason, self.online)

    @property
    def vision_status(self) -> str:
        """``offline`` (or stopping, or without an engine), ``switching`` (a model is being loaded), ``busy`` or ``idle``."""
        if not self.online or self.agent_state == "no_engine":
            return "offline"
        if self.agent_state == DRAINING and not self.jobs:
            return "offline"
        if self.agent_state == "loading" or self.worker.loading:
            return "switching"
        return "busy" if self.jobs or self.agent_state in (SERVING, BUILDING) else "idle"

    def fault(self, what: str, now: float) -> bool:
        """Note a job, or a load, that went wrong by the node's doing; return whether it is quarantined now (``now`` is monotonic).

        One job that goes wrong again and again counts once: it may be at fault itself.
        """
        self.faulty.add(what)
        if len(self.faulty) >= FAULTS_IN_A_ROW:
            self.quarantines += 1
            self.quarantined_until = now + quarantine_seconds(self.quarantines)
        return self.quarantined_until > now

    def well(self) -> None:
        """Note an attempt that went well: the faults are forgotten."""
        self.faulty.clear()
        self.quarantines = 0
        self.quarantined_until = 0.0

    def barred(self, now: float) -> str | None:
        """Return why the node may be given nothing now, or None (``now`` is monotonic)."""
        if self.agent_state == DRAINING:
            return "its agent is stopping"
        if self.agent_state == BUILDING:
            return "it is building engines of TensorRT"
        return why_not(self.row.labels, self.metrics, len(self.faulty), self.quarantined_until - now)

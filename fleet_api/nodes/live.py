"""What is known of a node right now, in memory; rebuilt from the table at start."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet_api.nodes.models import Node
from fleet_api.nodes.states import shown
from fleet_api.scheduling.types import Worker
from gpu_inference.protocol import BEAT_SECONDS, Capabilities, Metrics

SILENT_SECONDS = 3 * BEAT_SECONDS
"""A node that missed three beats is offline."""


@dataclass(slots=True)
class LiveNode:
    """A node's row, its last figures, and when it was last heard on the monotonic clock."""

    row: Node
    capabilities: Capabilities
    metrics: Metrics
    loaded_model: str | None = None
    agent_state: str = "idle"
    heard: float | None = None
    last_seen: float | None = None
    online: bool = False
    jobs: dict[str, int] = field(default_factory=dict)
    saved_at: float = 0.0

    @classmethod
    def from_row(cls, row: Node) -> LiveNode:
        """Return the node as the table has it: offline until heard."""
        return cls(row, Capabilities.model_validate(row.capabilities), Metrics.model_validate(row.metrics), last_seen=row.last_seen)

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
        """``offline`` (or without an engine), ``switching`` (a model is being loaded), ``busy`` or ``idle``."""
        if not self.online or self.agent_state == "no_engine":
            return "offline"
        if self.agent_state == "loading":
            return "switching"
        return "busy" if self.jobs else "idle"

    def worker(self) -> Worker:
        """Return the node as the scheduler sees it."""
        return Worker(
            node_id=self.id,
            loaded_model=self.loaded_model,
            cluster=self.row.cluster,
            job_types=frozenset(self.capabilities.job_types),
            models=frozenset(model.name for model in self.capabilities.models),
            samplers=frozenset(self.capabilities.samplers),
            loras=frozenset(lora.name for lora in self.capabilities.loras),
        )

"""What a node's figures say of its work: how much slower heat makes it, and whether a model fits into its memory now. Memory in MiB."""

from __future__ import annotations

from fleet_api.scheduling.types import Worker

THROTTLED = 1.5
"""How much slower a throttled node is taken to be where its clock is not told."""

MOST_SLOWED = 4.0


def slowed(throttled: bool, clock_mhz: float | None, best_mhz: float | None) -> float:
    """Return how many times longer a job takes than on the cool node: by its clock, of which ``best_mhz`` is the highest seen."""
    if not throttled:
        return 1.0
    if not clock_mhz or not best_mhz or clock_mhz >= best_mhz:
        return THROTTLED
    return min(MOST_SLOWED, best_mhz / clock_mhz)


def lacks_memory(worker: Worker, model: str | None) -> bool:
    """Say whether the node would have to load or wake the model and has no room for it; what is not known is no lack."""
    if model is None or worker.room is None or worker.warm(model) or model in worker.spare:
        return False
    return worker.needs.get(model, 0.0) > worker.room


def short_of(worker: Worker, model: str) -> str:
    """Return in words what a node lacks of memory for a model."""
    blocks = f" ({_gib(worker.contiguous)} in large blocks)" if worker.contiguous is not None else ""
    return f"{worker.node_id} has {_gib(worker.room or 0.0)} of memory for it{blocks} and would need {_gib(worker.needs.get(model, 0.0))}"


def _gib(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB"

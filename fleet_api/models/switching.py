"""A person's word on which model a node is to have."""

from __future__ import annotations

from collections.abc import Callable

from fleet_api.errors import Conflict, NotFound, Unavailable
from fleet_api.models.schemas import Switched
from fleet_api.nodes.live import LiveNode


def switch_model(node: LiveNode, model: str, wake: Callable[[], None]) -> Switched:
    """Have the node load the model. Raises NotFound, Unavailable while it is offline, and Conflict where its agent cannot be told to."""
    there = [each.name for each in node.capabilities.models]
    coming = model in node.worker.to_come.models
    if model not in there and not coming:
        raise NotFound(f"model: node {node.id!r} has no model {model!r}; it has: {', '.join(sorted(there)) or 'none'}.")
    if not node.online:
        raise Unavailable(f"Node {node.id!r} is offline; its model can be switched once its agent is back.")
    if not node.capabilities.loads:
        raise Conflict(f"The agent on node {node.id!r} is too old to be told to load a model; bring it up to date.")
    if node.loaded_model == model and not node.worker.loading:
        node.wish = None
        return Switched(node_id=node.id, model=model, status="loaded")
    node.wish = model
    wake()
    if model not in there:
        return Switched(node_id=node.id, model=model, status="fetching")
    return Switched(node_id=node.id, model=model, status="loading" if node.worker.idle else "waiting")

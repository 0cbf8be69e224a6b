"""Labels that a node has in the swarm by what is known of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NODE = "fleet.node"
INFERENCE = "fleet.inference"
"""There where the member's own agent is a container of the swarm: module_utils/agent_services.py of the collection sets it."""

OURS = ("cluster", "nvidia", "l4t", "jetpack", "gpu_arch", NODE)


def from_facts(node_id: str, cluster: str | None, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels: which node of the fleet it is, its cluster, and what of a GPU it has."""
    found = {
        NODE: node_id,
        "cluster": cluster or "",
        "nvidia": "true" if facts.get("is_jetson") or facts.get("gpus") else "false",
        "l4t": str(facts.get("l4t_version") or ""),
        "jetpack": str(facts.get("jetpack_version") or ""),
        "gpu_arch": _gpu_arch(facts),
    }
    return {name: value for name, value in found.items() if value}


def merged(now: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Return the labels there are with ours in place of earlier ones of ours."""
    return {**{name: value for name, value in now.items() if name not in OURS}, **ours}


def _gpu_arch(facts: Mapping[str, Any]) -> str:
    """Return the compute capability as compilers write it, such as sm_87."""
    capability = facts.get("compute_capability")
    return f"sm_{str(capability).replace('.', '')}" if capability else ""

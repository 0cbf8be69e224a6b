"""What ComfyUI writes into its PNG files: the graph that made the picture, in the text chunk ``prompt``.

The graph is a JSON object of nodes by id, each with ``class_type`` and ``inputs``; of the nodes of a kind, the first counts.
"""

from __future__ import annotations

import json
from typing import Any

LARGEST = 200_000  # characters
_LONGEST = 2000


def read_workflow(info: dict[Any, Any]) -> dict[str, Any]:
    """Return ``prompt``, ``model`` and ``seed`` where the graph tells them, and nothing for what is no graph."""
    words = info.get("prompt")
    if not isinstance(words, str) or len(words) > LARGEST:
        return {}
    try:
        graph = json.loads(words)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(graph, dict):
        return {}
    found: dict[str, Any] = {}
    for node in graph.values():
        if not isinstance(node, dict) or not isinstance(inputs := node.get("inputs"), dict):
            continue
        kind = node.get("class_type")
        if kind == "CLIPTextEncode":
            _take(found, "prompt", inputs.get("text"), str)
        elif kind == "CheckpointLoaderSimple":
            _take(found, "model", inputs.get("ckpt_name"), str)
        elif kind == "KSampler":
            _take(found, "seed", inputs.get("seed"), int)
    return found


def _take(found: dict[str, Any], name: str, value: Any, kind: type) -> None:
    if name in found or not isinstance(value, kind) or isinstance(value, bool):
        return
    if isinstance(value, str):
        found[name] = value.encode(errors="replace").decode().replace("\x00", "")[:_LONGEST]
    elif isinstance(value, int) and 0 <= value < 2**63:
        found[name] = value

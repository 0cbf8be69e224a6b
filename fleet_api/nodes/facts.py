"""Facts that a machine tells of itself, made fit to be kept and shown. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

LONGEST_KEY = 100
DEEPEST = 6
LARGEST = 64 * 1024  # bytes of all facts, as JSON
TOLD_BY_AGENT = frozenset(
    {
        "hostname", "os", "os_release", "arch", "python", "cpu_count", "memory_total_mib", "disk_total_mib", "machine_id", "boot_time",
        "agent_version",
    }
)  # fmt: skip
"""As in gpu_inference/agent/telemetry.py."""


def kept(facts: Any, clean: Callable[[str], str] = str) -> tuple[dict[str, Any], str | None]:
    """Return the facts as plain JSON, and a note in a sentence where they were left out as a whole.

    ``clean`` takes secrets out of each text.

    Left out one by one: keys that are no text or too long, numbers that are not finite, what is nested too deep.
    """
    if not isinstance(facts, dict):
        return {}, "The machine's facts were left out: they are no mapping."
    found: dict[str, Any] = _plain(facts, 0, clean)
    size = len(json.dumps(found))
    if size > LARGEST:
        return {}, f"The machine's facts were left out: they take {size} bytes, and {LARGEST} are kept."
    return found, None


def after_look(known: dict[str, Any], told: Any, clean: Callable[[str], str]) -> tuple[dict[str, Any], str | None]:
    """Return the facts after a look, beside what the agent has told; an earlier look's are replaced as a whole.

    Where the look's facts cannot be kept the known ones stay, and the note says why.
    """
    looked, note = kept(told, clean)
    if note is not None:
        return known, note
    return {**{name: value for name, value in known.items() if name in TOLD_BY_AGENT}, **looked}, None


def with_beat(known: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with an agent's own beside them; no more than is kept of a machine."""
    found = {**known, **told}
    return found if len(json.dumps(found)) <= 2 * LARGEST else told


def _plain(value: Any, depth: int, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value).encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if depth >= DEEPEST:
        return None
    if isinstance(value, list | tuple):
        return [_plain(each, depth + 1, clean) for each in value]
    if isinstance(value, dict):
        fine = ((key, each) for key, each in value.items() if isinstance(key, str) and len(key) <= LONGEST_KEY)
        return {_plain(key, depth, clean): _plain(each, depth + 1, clean) for key, each in fine}
    return None

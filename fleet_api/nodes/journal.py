"""Lines of a systemd journal as log events. Pure."""

from __future__ import annotations

import json
from typing import Any

from fleet_api.kit.clock import rfc3339

UNITS = ("fleet-agent", "docker", "ssh", "sshd")
LEVELS = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
"""By syslog's priorities, 0 to 7."""

LONGEST = 16_384


def command(lines: int) -> str:
    """Return the command that prints the last lines of the node's own services and then each new one, as JSON."""
    units = " ".join(f"-u {unit}" for unit in UNITS)
    return f"exec journalctl --no-pager -f -o json -n {lines} {units}"


def event(node_id: str, line: bytes) -> dict[str, Any] | None:
    """Return the event of one line; None for a line that is no entry."""
    try:
        entry = json.loads(line)
        seconds = int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000
    except (ValueError, KeyError, TypeError):
        return None
    unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or entry.get("SYSLOG_IDENTIFIER") or "")
    return {
        "type": "log", "node_id": node_id, "timestamp": rfc3339(seconds), "level": _level(entry.get("PRIORITY")),
        "message": _text(entry.get("MESSAGE")), "source": unit.removesuffix(".service"),
    }  # fmt: skip


def _level(priority: Any) -> str:
    try:
        return LEVELS[min(max(int(priority), 0), 7)]
    except (TypeError, ValueError):
        return "info"


def _text(message: Any) -> str:
    """Journals write what is no UTF-8 as a list of bytes, and a field that is there twice as a list of texts."""
    if isinstance(message, list):
        numbers = all(isinstance(each, int) and 0 <= each < 256 for each in message)
        message = bytes(message).decode(errors="replace") if numbers else " ".join(map(str, message))
    return str(message if message is not None else "")[:LONGEST]

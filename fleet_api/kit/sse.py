"""Server-sent events: how they are written, and how the API's description names them."""

from __future__ import annotations

from typing import Any

STILL_HERE = ": still here\n\n"
"""A comment that keeps the connection open while nothing happens."""


def sse(name: str, data: str, id_: int | None = None) -> str:
    """Return one event; ``data`` is one line of JSON."""
    number = "" if id_ is None else f"id: {id_}\n"
    return f"{number}event: {name}\ndata: {data}\n\n"


def streamed(description: str) -> dict[int | str, dict[str, Any]]:
    """Return the documented answer of a row that streams events."""
    event = {
        "type": "object",
        "description": description,
        "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
        "required": ["event", "data"],
    }
    return {200: {"content": {"text/event-stream": {"schema": event}}, "description": "Server-sent events"}}

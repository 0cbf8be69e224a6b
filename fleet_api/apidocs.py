"""Writes the API's operations as one Markdown table a chapter: ``python -m fleet_api.apidocs > docs/api.md``."""

from __future__ import annotations

import sys
from typing import Any

from fleet_api.app import create_app
from fleet_api.settings import Settings

CHAPTERS = (
    "health", "fleet", "nodes", "swarm", "clusters", "network", "install_queue", "build", "operations", "schedule", "backups", "ssh",
    "vision", "queue", "vault", "keys", "session", "audit", "agents",
)  # fmt: skip

HEAD = """# The API in a table

Written by `make docs` from the API itself; the running server has the whole with schemas and examples at `/docs`.
Every error is `{"detail": "<one sentence>"}`. A path works with and without its trailing slash.
"""

WEBSOCKETS = """
## websocket

| address | sends |
|---|---|
| `/ws?types=` | `{type, data}`: `node_update`, `job_progress`, `job_complete`, `service_update`; `types` names the wanted ones |
| `/ws/logs/{node_id}` | the node's services' log, and what operations tell of it: `{type, node_id, timestamp, level, message, source}` |
| `/ws/metrics` | every node's figures, at once and then every second |
"""


def render() -> str:
    """Return the page."""
    schema = create_app(Settings()).openapi()
    chapters: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            chapters.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    lines = [HEAD]
    for chapter in CHAPTERS:
        operations = chapters.pop(chapter)
        lines += [f"## {chapter}", "", "| operation | does | role | answers |", "|---|---|---|---|"]
        lines += [
            f"| `{method} {path}` | {each['summary']} | {each['x-role']} | {', '.join(each['responses'])} |"
            for method, path, each in operations
        ]
        lines.append("")
    assert not chapters, f"a chapter is missing in CHAPTERS: {sorted(chapters)}"
    return "\n".join(lines).rstrip() + "\n" + WEBSOCKETS


if __name__ == "__main__":
    sys.stdout.write(render())

# Copyright: Fleet Commander contributors. Apache-2.0.
"""What an action returns is shown to nobody, and registered all the same."""

from __future__ import annotations

from typing import Any


def hidden(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result that no callback shows, as it holds a secret. A failure holds none, and is told with its reason."""
    return result if result.get("failed") else {**result, "_ansible_no_log": True}

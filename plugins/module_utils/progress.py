# Copyright: Fleet Commander contributors. Apache-2.0.
"""In-task progress: a long module tells how far it is, and the control plane, where there is one, reads it over its own connection.

A line of JSON a word, appended to a file of the operation under ``/run/fleet/progress``. Without an operation nothing is written.
"""

from __future__ import annotations

import json
import os
import time

FOLDER = "/run/fleet/progress"
EVERY_SECONDS = 0.5


class Progress:
    """Tells of one piece of work. Never fails: progress is worth no failure."""

    def __init__(self, what: str, folder: str = FOLDER) -> None:
        """``what`` is the piece of work, for people, such as ``packages``."""
        operation = os.environ.get("FLEET_OPERATION", "")
        self._path = os.path.join(folder, operation + ".jsonl") if operation and "/" not in operation else ""
        self._what = what
        self._last = 0.0

    def tell(self, text: str, percent: float | None = None) -> None:
        """Tell how far it is; at most every :data:`EVERY_SECONDS`, but always the end (100 percent)."""
        now = time.monotonic()
        if not self._path or (now - self._last < EVERY_SECONDS and percent != 100):
            return
        self._last = now
        word = {"what": self._what, "text": text[:300], "percent": percent}
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(word) + "\n")
        except OSError:
            self._path = ""

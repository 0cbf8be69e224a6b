"""Logs as JSON lines on stderr. Credentials and tokens are never passed to a logger."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Dict

logger = logging.getLogger("fleet-worker")


class JsonLines(logging.Formatter):
    """One JSON object a record: time (UTC), level, event and the fields given as ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: Dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Sends the root logger to stderr at ``level``; libraries that log every request speak from warning on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


def log(level: int, event: str, **fields: Any) -> None:
    """Logs ``event`` with ``fields``."""
    logger.log(level, event, extra={"fields": fields})


def info(event: str, **fields: Any) -> None:
    """Logs at info."""
    log(logging.INFO, event, **fields)


def warning(event: str, **fields: Any) -> None:
    """Logs at warning."""
    log(logging.WARNING, event, **fields)


def error(event: str, **fields: Any) -> None:
    """Logs at error."""
    log(logging.ERROR, event, **fields)

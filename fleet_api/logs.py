"""Structured logs: JSON lines on standard error, free of secrets. Each line of a request carries its id."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from fleet_api.kit.redact import redact

REFUSED_HANDSHAKE = "returned without completing handshake"
"""What uvicorn says of each WebSocket that was refused: strangers must not fill the log with it."""


def configure(level: str) -> None:
    """Log to standard error as JSON lines, from this level up. The libraries' own chatter is kept to warnings."""
    number = getattr(logging, level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacting("%(message)s"))
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING))
    logging.getLogger("uvicorn.error").addFilter(lambda record: REFUSED_HANDSHAKE not in record.getMessage())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
    return event


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

"""A log file that is moved aside when it is full: ``api.log``, ``api.log.1`` and so on."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from fleet_api.kit.redact import redact

LIMIT = 10 * 1024 * 1024  # bytes
KEPT = 4


class RotatingLog:
    """Takes lines as they come from a child process; secrets are taken out."""

    def __init__(self, path: Path, limit: int = LIMIT, kept: int = KEPT) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=limit, backupCount=kept, encoding="utf-8", delay=True)

    def write(self, line: bytes) -> None:
        """Append a line; a disk that is full loses it, and nothing else."""
        text = redact(line.decode("utf-8", "backslashreplace").rstrip("\n"))
        try:
            record = logging.makeLogRecord({"msg": text})
            if self._handler.shouldRollover(record):
                self._handler.doRollover()
            logging.FileHandler.emit(self._handler, record)
        except OSError:
            pass

    def close(self) -> None:
        """Close the file."""
        self._handler.close()

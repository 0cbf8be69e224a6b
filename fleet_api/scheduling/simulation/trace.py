"""Traces: what came when. A CSV with the columns ``arrival_s,model,seconds,priority``; ``priority`` may be left out."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

REQUIRED = ("arrival_s", "model", "seconds")
COLUMNS = (*REQUIRED, "priority")
PRIORITIES = range(-1_000_000, 1_000_001)


class BadTrace(ValueError):
    """A trace that cannot be read; the message names line, column and what is allowed."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job of a trace: when it came, in seconds; its model; its seconds of work on a node of speed 1; its priority."""

    at: float
    model: str
    seconds: float
    priority: int = 0


def read_trace(lines: Iterable[str]) -> list[Arrival]:
    """Return the jobs of a CSV in the order of their arrival. Raises BadTrace."""
    try:
        rows = csv.DictReader(lines, skipinitialspace=True)
        names = [(name or "").strip() for name in rows.fieldnames or ()]
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise BadTrace(f"The trace lacks the column {missing[0]}; its first line names the columns {', '.join(REQUIRED)}[, priority].")
        unknown = [name for name in names if name not in COLUMNS]
        if unknown:
            raise BadTrace(f"The trace has an unknown column {unknown[0]!r}; the columns are {', '.join(COLUMNS)}.")
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise BadTrace(f"The trace names the column {twice[0]} twice.")
        rows.fieldnames = names
        jobs = [_arrival(row, rows.line_num) for row in rows]
    except csv.Error as error:
        raise BadTrace(f"The trace is not CSV: {error}.") from None
    if not jobs:
        raise BadTrace("The trace holds no job.")
    return sorted(jobs, key=lambda job: job.at)


def _arrival(row: dict[str | None, str | list[str] | None], line: int) -> Arrival:
    if None in row or any(value is None for key, value in row.items() if key != "priority"):
        raise BadTrace(f"Line {line} of the trace does not have one value for each column.")
    texts = {str(key): str(value or "").strip() for key, value in row.items()}
    if not texts["model"]:
        raise BadTrace(f"Line {line} of the trace names no model.")
    at, seconds = _number(texts, "arrival_s", line), _number(texts, "seconds", line)
    if at < 0:
        raise BadTrace(f"Line {line} of the trace: arrival_s must be 0 or more, not {texts['arrival_s']}.")
    if seconds <= 0:
        raise BadTrace(f"Line {line} of the trace: seconds must be more than 0, not {texts['seconds']}.")
    return Arrival(at, texts["model"], seconds, _priority(texts.get("priority") or "0", line))


def _number(texts: dict[str, str], column: str, line: int) -> float:
    try:
        value = float(texts[column])
    except ValueError:
        raise BadTrace(f"Line {line} of the trace: {column} must be a number, not {texts[column]!r}.") from None
    if not isfinite(value):
        raise BadTrace(f"Line {line} of the trace: {column} must be finite, not {texts[column]}.")
    return value


def _priority(text: str, line: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = PRIORITIES.stop
    if value not in PRIORITIES:
        raise BadTrace(f"Line {line} of the trace: priority must be a whole number from -1000000 to 1000000, not {text!r}.")
    return value

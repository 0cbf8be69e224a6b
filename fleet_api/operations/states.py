"""States of an operation, and which may follow which.

::

    queued -> running -> succeeded | failed | cancelled | lost
       \\-> cancelled

``lost``: the control plane ended while it ran. What ended stays as it is; a retry is a new operation.
"""

from __future__ import annotations

from enum import StrEnum


class OperationState(StrEnum):
    """Where an operation is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


ENDED = frozenset({OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED, OperationState.LOST})
UNFINISHED = frozenset({OperationState.QUEUED, OperationState.RUNNING})
RETRIABLE = frozenset({OperationState.FAILED, OperationState.CANCELLED, OperationState.LOST})

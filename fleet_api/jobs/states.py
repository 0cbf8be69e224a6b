"""The states of a job, and which may follow which.

::

    queued -> processing -> completed
       |  ^       |  |
       |  +-------+  +----> failed
       +------------------> cancelled   (from queued and processing)

``failed`` and ``cancelled`` go back to ``queued`` by a caller's retry alone.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobType(StrEnum):
    """What kinds of work the queue takes."""

    IMAGE_GEN = "image_gen"
    VIDEO_GEN = "video_gen"
    LLM_INFERENCE = "llm_inference"
    TRANSCRIPTION = "transcription"
    TRAINING = "training"
    CUSTOM = "custom"


class Outcome(StrEnum):
    """How an attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PARTED = "parted"
    """It was one of a batch that broke as a whole or took too long: nothing is held against the job, which is made alone from then on."""


ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})
PRIORITIES = {"low": -10, "normal": 0, "high": 10}
LOSS_LIMIT = 3
"""A job whose worker died this often, its node or its engine, fails: it may be what they die of."""


def priority_name(value: int) -> str:
    """Return the queue's word for a number: below 0 ``low``, above 0 ``high``, else ``normal``."""
    return "low" if value < 0 else "high" if value > 0 else "normal"

"""How jobs come in by the queue's door, and how they are shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from fleet_api.jobs.callbacks import checked_url
from fleet_api.jobs.states import JobType
from fleet_api.kit.fields import Integer, JsonObject, Number, RequestBody, Text

BATCH_LIMIT = 1_000

PriorityName = Literal["high", "normal", "low"]


class QueueJobBody(RequestBody):
    """A job for the queue; the payload of ``image_gen`` takes the fields of ``POST /api/vision/generate``."""

    job_type: JobType = Field(examples=["image_gen"])
    priority: PriorityName = "normal"
    payload: JsonObject = Field(default_factory=dict, examples=[{"prompt": "a red circle on a blue background"}])
    target_cluster: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(None, examples=[None])
    target_node: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(None, examples=[None])
    callback_url: Annotated[Text, Field(max_length=2000), AfterValidator(checked_url)] | None = Field(
        None, examples=[None], description="Called with a signed message when the job ends; GET .../deliveries tells what became of it"
    )
    max_retries: Annotated[Integer, Field(ge=0, le=100)] = 3
    timeout_seconds: Annotated[Number, Field(ge=1, le=604_800)] = 3600


class BatchBody(RequestBody):
    """Several jobs, taken all or none."""

    jobs: Annotated[list[QueueJobBody], Field(min_length=1, max_length=BATCH_LIMIT)]


class Submitted(BaseModel):
    """A job that was queued."""

    job_id: str = Field(examples=["550e8400-e29b-41d4-a716-446655440000"])
    status: str = Field(examples=["queued"])
    job_type: str = Field(examples=["image_gen"])
    priority: str = Field(examples=["normal"])
    queue_position: int | None = Field(examples=[1])


class BatchSubmitted(BaseModel):
    """The jobs of a batch, in its order."""

    job_ids: list[str]
    created: int


class VisionSubmitted(BaseModel):
    """A picture that was queued; ``job_ids`` names all of them where ``count`` was more than one."""

    job_id: str = Field(examples=["550e8400-e29b-41d4-a716-446655440000"])
    status: str = Field(examples=["queued"])
    queue_position: int | None = Field(examples=[1])
    target_model: str = Field(examples=["fleet-shapes"])
    job_ids: list[str]


class AttemptView(BaseModel):
    """One try at a job."""

    attempt: int
    node_id: str
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str | None = None
    error: str | None = None
    reason: str | None = Field(None, description="Why it went to this node")
    load_seconds: float | None = Field(None, description="What loading the model took of it")


class JobView(BaseModel):
    """A job. Fields that its state has no use for are left out."""

    job_id: str = Field(examples=["550e8400-e29b-41d4-a716-446655440000"])
    status: str = Field(examples=["completed"])
    job_type: str = Field(examples=["image_gen"])
    priority: int = Field(examples=[0])
    priority_name: str = Field(examples=["normal"])
    created_at: str | None
    started_at: str | None = None
    finished_at: str | None = None
    queue_position: int | None = None
    wait_seconds: float | None = None
    is_possible: bool | None = None
    reason: str | None = None
    progress: int | None = None
    preview: int | None = Field(None, description="The step that GET /api/queue/jobs/{job_id}/preview shows, once there is one")
    node_id: str | None = None
    model: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str | None = None
    callback: str | None = Field(
        None, description="Where the message to callback_url stands: pending, retrying, delivered, gave_up; not_sent of old jobs"
    )
    callback_url: str | None = None
    target_cluster: str | None = None
    target_node: str | None = None
    max_retries: int = 3
    timeout_seconds: float = 3600
    overtaken: int = Field(0, description="How many jobs of its priority that came later were started before it")
    explanation: str | None = Field(None, description="With explain=true: why it waits, or why it went where it did")
    attempts: int = Field(0, description="How often it was tried")
    history: list[AttemptView] | None = Field(None, description="Each try, in the answer for one job of the queue")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    total: int


class QueueEntry(BaseModel):
    """A job that waits."""

    job_id: str
    position: int
    model: str | None
    priority: int
    status: str
    wait_seconds: float | None
    created_at: str | None


class QueueView(BaseModel):
    """The waiting jobs by position."""

    queue: list[QueueEntry]
    length: int


class Cancelled(BaseModel):
    """A job's state after the call."""

    job_id: str
    status: str


class CancelledCount(BaseModel):
    """How many jobs were cancelled."""

    cancelled: int


class QueueStats(BaseModel):
    """Figures of the queue. ``throughput_per_minute`` is the mean over the last five minutes."""

    queued: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    by_type: dict[str, int]
    by_priority: dict[str, int]
    throughput_per_minute: float
    oldest_queued_seconds: float

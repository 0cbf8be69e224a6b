"""From what the three doors take to jobs for the queue: names are checked, values settled."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fleet_api.adapters.http_out.url import parts_of
from fleet_api.callbacks.addresses import CallbackRules
from fleet_api.errors import InvalidValue
from fleet_api.jobs.images import ImageBody, VisionGenerateBody, payload_of
from fleet_api.jobs.schemas import QueueJobBody
from fleet_api.jobs.states import PRIORITIES, JobType
from fleet_api.jobs.submission import NewJob
from fleet_api.kit.validation import sentence, shown
from fleet_api.models.catalogue import Catalogue


class Doors:
    """Turns request bodies into jobs."""

    def __init__(self, catalogue: Catalogue, callbacks: CallbackRules) -> None:
        self._catalogue = catalogue
        self._callbacks = callbacks

    def picture(self, body: ImageBody, door: str, **extra: Any) -> list[NewJob]:
        """Return the jobs of a picture request, one a picture. Raises NotFound and InvalidValue for names that are not known."""
        model = self._catalogue.resolve(body.model)
        scheduler = self._catalogue.scheduler(body.scheduler)
        for name in (body.lora, *(each.name for each in body.loras)):
            self._catalogue.check_lora(name, model)
        count, priority = 1, 0
        if isinstance(body, VisionGenerateBody):
            count, priority = body.count, body.priority
            extra = {"cluster": body.target_cluster, "node": body.target_node, **extra}
        if body.seed is None:
            body = body.model_copy(update={"seed": payload_of(body, model, scheduler)["seed"]})
        extra = {"priority": priority, **extra}
        return [
            NewJob(door=door, job_type=JobType.IMAGE_GEN, model=model, payload=payload_of(body, model, scheduler, i), **extra)
            for i in range(count)
        ]

    def queued(self, body: QueueJobBody, path: str = "") -> NewJob:
        """Return the job of a queue request. Raises as :meth:`picture`; ``path`` goes before field names in sentences."""
        self._check_callback(body.callback_url, path)
        extra: dict[str, Any] = {
            "priority": PRIORITIES[body.priority], "cluster": body.target_cluster, "node": body.target_node,
            "callback_url": body.callback_url,
            "max_retries": body.max_retries, "timeout_seconds": body.timeout_seconds,
        }  # fmt: skip
        if body.job_type is not JobType.IMAGE_GEN:
            return NewJob(door="queue", job_type=body.job_type, payload=body.payload, **extra)
        if body.payload.get("count") not in (None, 1):
            count = shown(body.payload["count"])
            raise InvalidValue(f"{path}payload.count: {count} is not allowed; a queue job is one picture, use POST /api/queue/jobs/batch.")
        try:
            image = ImageBody.model_validate(body.payload)
        except ValidationError as error:
            raise InvalidValue(f"{path}payload." + sentence(error.errors(include_url=False), ImageBody.model_fields)) from None
        return self.picture(image, "queue", **extra)[0]

    def _check_callback(self, url: str | None, path: str) -> None:
        if url is None:
            return
        _, host, port = parts_of(url)
        try:
            self._callbacks.check_host(host, port)
        except ValueError as error:
            raise InvalidValue(f"{path}callback_url: {shown(url)} is not allowed; it {error}.") from None

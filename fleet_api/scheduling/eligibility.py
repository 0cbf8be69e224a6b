"""Can this node ever serve this job, and if none can, why."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_api.scheduling.types import WaitingJob, Worker


def can_serve(job: WaitingJob, worker: Worker) -> bool:
    """Return whether the worker has what the job needs."""
    return (
        job.job_type in worker.job_types
        and (job.model is None or job.model in worker.models)
        and (job.sampler is None or job.sampler in worker.samplers)
        and (job.lora is None or job.lora in worker.loras)
        and (job.cluster is None or job.cluster == worker.cluster)
    )


def why_impossible(job: WaitingJob, workers: Iterable[Worker]) -> str | None:
    """Return one sentence that says why no worker could ever serve the job, or None if one could."""
    unable = []
    for worker in workers:  # one after the other, as mostly the first could
        if can_serve(job, worker):
            return None
        unable.append(worker)
    if not unable:
        return "No node is enrolled yet; start one with 'fleet up' or enrol an agent."
    able = [worker for worker in unable if job.job_type in worker.job_types]
    if not able:
        served = sorted({kind for worker in unable for kind in worker.job_types})
        return f"No enrolled node serves jobs of type {job.job_type}; the fleet serves: {', '.join(served) or 'none'}."
    if job.cluster is not None:
        able = [worker for worker in able if worker.cluster == job.cluster]
        if not able:
            return f"No enrolled node that serves {job.job_type} is in the cluster {job.cluster!r}."
    able = [worker for worker in able if job.model is None or job.model in worker.models]
    if any(job.sampler is None or job.sampler in worker.samplers for worker in able):
        return f"No enrolled node that has the model {job.model!r} has the LoRA {job.lora!r}."
    if able:
        return f"No enrolled node that has the model {job.model!r} serves the sampler {job.sampler!r}."
    return f"No enrolled node{f' of cluster {job.cluster!r}' if job.cluster else ''} has the model {job.model!r}."

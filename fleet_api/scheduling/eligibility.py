"""Can this node ever serve this job, and if none can, why."""

from __future__ import annotations

from collections.abc import Iterable

from fleet_api.scheduling.types import Skills, WaitingJob, Worker


def can_serve(job: WaitingJob, worker: Worker) -> bool:
    """Return whether the worker has what the job needs."""
    return serves_group(worker, job.job_type, job.model, job.cluster, job.node) and serves_lane(worker, job.sampler, job.loras)


def serves_group(worker: Worker, job_type: str, model: str | None, cluster: str | None, node: str | None) -> bool:
    """Return whether the worker does such jobs, has the model, and is where they are to be done."""
    return (
        job_type in worker.skills.job_types
        and (model is None or model in worker.skills.models)
        and (cluster is None or cluster == worker.cluster)
        and (node is None or node == worker.node_id)
    )


def serves_lane(worker: Worker, sampler: str | None, loras: tuple[str, ...]) -> bool:
    """Return whether the worker has the sampler and all the LoRAs."""
    return (sampler is None or sampler in worker.skills.samplers) and (not loras or worker.skills.loras.issuperset(loras))


def could_serve(job: WaitingJob, worker: Worker) -> bool:
    """Return whether the worker has what the job needs, or could fetch what it lacks of it."""
    return can_serve(job, worker) or (bool(worker.to_come.models or worker.to_come.loras) and can_serve(job, _with_all(worker)))


def _with_all(worker: Worker) -> Worker:
    have, more = worker.skills, worker.to_come
    skills = Skills(have.job_types, have.models | more.models, have.samplers, have.loras | more.loras)
    return Worker(worker.node_id, skills, cluster=worker.cluster)


def why_impossible(job: WaitingJob, workers: Iterable[Worker]) -> str | None:
    """Return one sentence that says why no worker could ever serve the job, or None if one could."""
    unable = []
    for worker in workers:  # one after the other, as mostly the first could
        if could_serve(job, worker):
            return None
        unable.append(_with_all(worker) if worker.to_come.models or worker.to_come.loras else worker)
    if not unable:
        return "No node is enrolled yet; start one with 'fleet up' or enrol an agent."
    able = [worker for worker in unable if job.job_type in worker.skills.job_types]
    if not able:
        served = sorted({kind for worker in unable for kind in worker.skills.job_types})
        return f"No enrolled node serves jobs of type {job.job_type}; the fleet serves: {', '.join(served) or 'none'}."
    if job.node is not None:
        able = [worker for worker in able if worker.node_id == job.node]
        if not able:
            return f"The node {job.node!r} does not serve jobs of type {job.job_type}."
    if job.cluster is not None:
        able = [worker for worker in able if worker.cluster == job.cluster]
        if not able:
            return f"No enrolled node that serves {job.job_type} is in the cluster {job.cluster!r}."
    able = [worker for worker in able if job.model is None or job.model in worker.skills.models]
    if any(job.sampler is None or job.sampler in worker.skills.samplers for worker in able):
        wanted = ", ".join(repr(name) for name in job.loras)
        return f"No enrolled node that has the model {job.model!r} has the LoRA{'s' if len(job.loras) > 1 else ''} {wanted}."
    if able:
        return f"No enrolled node that has the model {job.model!r} serves the sampler {job.sampler!r}."
    place = (
        f"The node {job.node!r} does not have"
        if job.node
        else f"No enrolled node{f' of cluster {job.cluster!r}' if job.cluster else ''} has"
    )
    return f"{place} the model {job.model!r}."

"""What a node, a job and a picture look like on the page."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_api.dashboard import wording
from fleet_api.jobs.schemas import JobView
from fleet_api.jobs.states import JobState
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.schemas import NodeView
from fleet_api.outputs.models import Output
from fleet_api.outputs.schemas import GalleryImage

FIGURES = (
    ("cpu", "CPU"), ("memory", "Memory"), ("disk", "Disk"), ("gpu", "GPU"), ("gpu_memory", "GPU mem."), ("temperature", "Temp."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a node; ``value`` runs from 0 to 100."""

    key: str
    label: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node with its figures. ``status`` is the node's, or its worker's (idle, busy, switching, no engine) while it is online."""

    id: str
    status: str
    model: str
    place: str
    last_seen: str | None
    seen: str
    figures: list[Figure]
    there: bool = False
    reason: str = ""

    @classmethod
    def of(cls, node: LiveNode) -> NodeRow:
        """Return the node as the page shows it."""
        view = NodeView.of(node)
        return cls(
            id=view.id, status=_status(node), model=(node.loaded_model or "no model loaded") if node.online else "",
            place=" · ".join(part for part in (view.ip, view.cluster) if part),
            last_seen=view.last_seen, seen=wording.moment(view.last_seen),
            figures=[_figure(view, key, label) for key, label in FIGURES], there=_is_there(view), reason=view.reason or "",
        )  # fmt: skip

    @classmethod
    def blank(cls) -> NodeRow:
        """Return what the browser fills in for a node that comes later."""
        return cls("", "offline", "", "", None, "", [Figure(key, label, 0, wording.NO_VALUE) for key, label in FIGURES])


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job that waits or runs. ``previews``: there will be some, so their place is kept from the first paint on."""

    id: str
    state: str
    title: str
    detail: str
    place: str
    progress: int
    previews: bool = False

    @classmethod
    def of(cls, job: JobView) -> JobRow:
        """Return the job as the page shows it."""
        previews = bool(job.payload.get("preview_every"))
        return cls(job.job_id, job.status, title_of(job), detail_of(job), place_of(job), job.progress or 0, previews)

    @classmethod
    def blank(cls) -> JobRow:
        """Return what the browser fills in for a job that comes later."""
        return cls("", str(JobState.QUEUED), "", "", "", 0)


def title_of(job: JobView) -> str:
    """Return what a job is about in one line."""
    return wording.excerpt(str(job.payload.get("prompt") or "")) or job.job_type


def detail_of(job: JobView) -> str:
    """Return model, size and steps."""
    payload = job.payload
    parts = [job.model or ""]
    if "width" in payload and "height" in payload:
        parts.append(wording.size(payload["width"], payload["height"]))
    if "steps" in payload:
        parts.append(f"{payload['steps']} steps")
    return " · ".join(part for part in parts if part)


def place_of(job: JobView) -> str:
    """Return where a job is: on a node, or at a position of the queue."""
    if job.status == JobState.PROCESSING:
        return f"{job.node_id or ''} · {job.progress or 0}%"
    if job.reason:
        return job.reason
    return " · ".join(part for part in (f"position {job.queue_position:,}", wording.soon(job.wait_seconds)) if part)


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A finished picture."""

    key: str
    url: str
    thumbnail: str
    title: str
    origin: str
    seed: str
    size: str
    created_at: str | None
    created: str
    starred: bool = False

    @classmethod
    def of(cls, output: Output) -> PictureRow:
        """Return the picture as the page shows it."""
        image = GalleryImage.of(output)
        return cls(
            key=image.filename, url=image.url, thumbnail=image.thumbnail_url or "", title=wording.excerpt(image.prompt),
            origin=" · ".join(part for part in (image.model, image.node_id) if part),
            seed=f"seed {image.seed}", size=wording.size(image.width, image.height),
            created_at=image.created_at, created=wording.moment(image.created_at),
            starred=image.starred,
        )  # fmt: skip

    @classmethod
    def blank(cls) -> PictureRow:
        """Return what the browser fills in for a picture that comes later."""
        return cls("", "", "", "", "", "", "", None, "")


def _is_there(view: NodeView) -> bool:
    return view.status in ("online", "degraded")


def _status(node: LiveNode) -> str:
    if node.status != "online":
        return node.status.replace("_", " ")
    if "image_gen" not in node.capabilities.job_types:
        return "online"
    return "no engine" if node.vision_status == "offline" else node.vision_status


def _figure(view: NodeView, key: str, label: str) -> Figure:
    value = getattr(view, key)
    if not _is_there(view):
        return Figure(key, label, 0, wording.NO_VALUE)
    text = wording.celsius(value) if key == "temperature" else wording.percentage(value)
    return Figure(key, label, min(100.0, max(0.0, value or 0.0)), text)

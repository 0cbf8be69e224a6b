"""Services and tasks of the engine as the API shows them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fleet_api.services.environment import shown
from fleet_api.services.running.schemas import ServiceDetail, ServiceView, TaskView
from fleet_api.services.running.spec import gpus, replicas_of
from fleet_api.services.swarm.labels import NODE

Raw = Mapping[str, Any]
TASKS_SHOWN = 200


def view(service: Raw, running: int | None = None, wanted: int | None = None) -> ServiceView:
    """Return a service of a list. The engine counts what runs where it was asked to."""
    spec, counted = service["Spec"], service.get("ServiceStatus") or {}
    replicas = replicas_of(spec)
    return ServiceView(
        id=service["ID"], name=spec["Name"], image=image_of(spec),
        replicas=replicas if replicas is not None else int(counted.get("DesiredTasks") or wanted or 0),
        running=running if running is not None else int(counted.get("RunningTasks") or 0),
        mode="global" if "Global" in spec["Mode"] else "replicated" if replicas is not None else next(iter(spec["Mode"]), "").lower(),
    )  # fmt: skip


def detail(service: Raw, tasks: Sequence[Raw], nodes: Mapping[str, str]) -> ServiceDetail:
    """Return a service with its tasks. ``nodes`` are names by Docker's ids."""
    spec = service["Spec"]
    template = spec["TaskTemplate"]
    container = template["ContainerSpec"]
    running = [task for task in tasks if task["Status"]["State"] == "running" and task.get("DesiredState") == "running"]
    wanted = sum(task.get("DesiredState") == "running" for task in tasks)
    newest = sorted(tasks, key=lambda each: str(each.get("CreatedAt") or ""), reverse=True)[:TASKS_SHOWN]
    return ServiceDetail(
        **view(service, len(running), wanted).model_dump(),
        ports=[_port(port) for port in (spec.get("EndpointSpec") or {}).get("Ports") or []],
        env=shown(container.get("Env") or []),
        mounts=[_mount(each) for each in container.get("Mounts") or []],
        constraints=list((template.get("Placement") or {}).get("Constraints") or []),
        resources=_resources(spec),
        update_status=_update_status(service.get("UpdateStatus") or {}),
        created_at=moment(service.get("CreatedAt")),
        updated_at=moment(service.get("UpdatedAt")),
        tasks=[task_view(task, nodes) for task in newest],
    )


def task_view(task: Raw, nodes: Mapping[str, str]) -> TaskView:
    """Return a task."""
    status = task["Status"]
    container = status.get("ContainerStatus") or {}
    code = container.get("ExitCode")
    return TaskView(
        id=task["ID"], slot=task.get("Slot") or None, node_id=nodes.get(task.get("NodeID") or ""), state=status["State"],
        desired_state=task.get("DesiredState") or "", image=image_of(task["Spec"], "ContainerSpec"), error=status.get("Err") or None,
        exit_code=code if status["State"] in ("complete", "failed", "shutdown") and isinstance(code, int) else None,
        message=status.get("Message") or None, updated_at=moment(status.get("Timestamp")),
        container_id=container.get("ContainerID") or None,
    )  # fmt: skip


def names_of(nodes: Sequence[Raw]) -> dict[str, str]:
    """Return how members are called, by Docker's ids: by the fleet's id, else by their host names."""
    return {
        node["ID"]: (node["Spec"].get("Labels") or {}).get(NODE) or (node.get("Description") or {}).get("Hostname") or node["ID"]
        for node in nodes
    }


def image_of(spec: Raw, *path: str) -> str:
    """Return a specification's image without the digest that Docker adds to a tag."""
    inner = spec[path[0]] if path else spec["TaskTemplate"]["ContainerSpec"]
    image = str((inner or {}).get("Image") or "")
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else image


def moment(text: str | None) -> str | None:
    """Return a time of the engine's as RFC 3339 with milliseconds; None for its zero."""
    if not text or text.startswith("0001-"):
        return None
    return re.sub(r"(\.\d{3})\d*Z$", r"\1Z", text)


def _mount(mount: Raw) -> dict[str, Any]:
    return {
        "source": mount.get("Source"),
        "target": mount.get("Target"),
        "read_only": bool(mount.get("ReadOnly")),
        "type": mount.get("Type"),
    }


def _resources(spec: Raw) -> dict[str, Any]:
    reserved = (spec["TaskTemplate"].get("Resources") or {}).get("Reservations") or {}
    return {
        "gpu": gpus(dict(spec)),
        "cpus": (reserved.get("NanoCPUs") or 0) / 1e9,
        "memory_mib": (reserved.get("MemoryBytes") or 0) // 2**20,
    }


def _update_status(status: Raw) -> dict[str, Any] | None:
    if not status.get("State"):
        return None
    started, completed = moment(status.get("StartedAt")), moment(status.get("CompletedAt"))
    return {"state": status["State"], "message": status.get("Message"), "started_at": started, "completed_at": completed}


def _port(port: Raw) -> dict[str, Any]:
    return {
        "target_port": port.get("TargetPort"),
        "published_port": port.get("PublishedPort"),
        "protocol": port.get("Protocol", "tcp"),
        "mode": port.get("PublishMode", "ingress"),
    }

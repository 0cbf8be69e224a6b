"""Whether a deploy has come to its end, by what Swarm says of the service and its tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_api.services.running.spec import replicas_of

FAILED = ("failed", "rejected")
OVER = ("complete", "shutdown", "failed", "rejected", "orphaned", "remove")
ROLLBACKS = ("rollback_started", "rollback_paused", "rollback_completed")
TRIES = 3
"""So many failures of one place say that the service does not run: Swarm itself would try for ever."""

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` is completed, rolled_back, failed, or empty while it goes on. ``running`` are tasks that must last to make it true."""

    state: str
    message: str = ""
    error: str | None = None
    exit_code: int | None = None
    running: frozenset[str] = frozenset()


GOING_ON = Verdict("")


def settled(service: Raw) -> bool:
    """Return whether Swarm is done with the last update, one way or the other."""
    return str((service.get("UpdateStatus") or {}).get("State")) in ("completed", "paused", *ROLLBACKS)


def of_update(service: Raw, tasks: Sequence[Raw], started: str | None) -> Verdict:
    """Return how an update or a rollback stands. ``started`` is when the one before it began: an old word is not its word."""
    status = service.get("UpdateStatus") or {}
    state = status.get("State")
    if not state or (started is not None and status.get("StartedAt") == started):
        return GOING_ON
    error, code = last_failure(tasks)
    said = str(status.get("Message") or "")
    if state == "completed":
        return Verdict("completed", said or "update completed")
    if state == "rollback_completed":
        return Verdict("rolled_back", said or "rollback completed", error, code)
    if state in ("paused", "rollback_paused"):
        return Verdict("failed", said or f"update {state}", error, code)
    return GOING_ON


def of_creation(service: Raw, tasks: Sequence[Raw], nodes: int) -> Verdict:
    """Return how a service stands that was made, or scaled. ``nodes`` is how many a global one shall be on."""
    replicas = replicas_of(dict(service["Spec"]))
    wanted = nodes if replicas is None else replicas
    running = [task for task in tasks if _state(task) == "running" and task.get("DesiredState") == "running"]
    if len(running) >= wanted:
        return Verdict("completed", f"{len(running)} of {wanted} tasks run", running=frozenset(task["ID"] for task in running))
    once = (service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}).get("Condition") in ("none", "on-failure")
    done = [task for task in tasks if _state(task) == "complete"]
    if once and done and len(running) + len(done) >= wanted:
        return Verdict("completed", f"{len(done)} tasks have ended well")
    places: dict[Any, int] = {}
    for task in tasks:
        if _state(task) in FAILED:
            place = task.get("Slot") or task.get("NodeID")
            places[place] = places.get(place, 0) + 1
    live = {task.get("Slot") or task.get("NodeID") for task in tasks if _state(task) not in OVER}
    given_up = [place for place in places if place not in live and _no_more_tries(service, places[place])]
    if given_up or any(number >= TRIES for number in places.values()):
        error, code = last_failure(tasks)
        return Verdict("failed", f"{len(running)} of {wanted} tasks run, and others fail again and again", error, code)
    return GOING_ON


def last_failure(tasks: Sequence[Raw]) -> tuple[str | None, int | None]:
    """Return what the task said that failed last, and its exit code."""
    failed = sorted((task for task in tasks if _state(task) in FAILED), key=lambda task: str(task["Status"].get("Timestamp") or ""))
    if not failed:
        return None, None
    status = failed[-1]["Status"]
    code = (status.get("ContainerStatus") or {}).get("ExitCode")
    return status.get("Err") or status.get("Message"), code if isinstance(code, int) and code else None


def waits_for(tasks: Sequence[Raw]) -> str | None:
    """Return what the tasks wait for that no node takes, in Swarm's words."""
    return next((str(task["Status"]["Err"]) for task in tasks if _state(task) == "pending" and task["Status"].get("Err")), None)


def _no_more_tries(service: Raw, failures: int) -> bool:
    policy = service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}
    if policy.get("Condition") == "none":
        return True
    attempts = int(policy.get("MaxAttempts") or 0)
    return attempts > 0 and failures > attempts


def _state(task: Raw) -> str:
    return str((task.get("Status") or {}).get("State") or "")

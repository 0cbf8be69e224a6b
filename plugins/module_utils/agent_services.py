# Copyright: Fleet Commander contributors. Apache-2.0.
"""Agents in containers: services of the swarm that run one task on each node whose label names them.

A service says how an agent runs, to the image's digest, and is never changed: its name is a hash of that. A node's label says which
service it has, so that a node changes by its label alone, and others with it do not. A service that no label names is removed.
"""

from __future__ import annotations

import fcntl
import json
import time
from contextlib import contextmanager
from typing import Any, Iterator
from urllib.parse import quote

from ansible_collections.fleet.commander.plugins.module_utils import services, swarm
from ansible_collections.fleet.commander.plugins.module_utils.images import docker

LABEL = "fleet.inference"
PREFIX = "fleet-agent-"
LOCK = "/run/fleet-agent-services.lock"
STEADY_SECONDS = 3.0
"""How long a task must run to be taken as one that runs."""

FAILURES = 2
"""Tasks that may fail before no further one is waited for."""

LOOK_SECONDS = 0.5


class TaskFailed(Exception):
    """The node's agent does not run; the text is a sentence."""


def wanted(given: dict[str, Any]) -> dict[str, Any]:
    """Return the service that runs an agent so, as ``services`` takes it; ``mark`` is what a node's label says. Pure."""
    asked = {name: given[name] for name in ("image", "env", "user", "groups", "gpus", "memory_mib", "stop_grace")}
    folders = [{"source": path, "target": path, "read_only": True} for path in given["folders"]]
    service = {
        **asked, "mounts": given["mounts"] + folders, "replicas": 1, "cluster": "", "publish": [], "command": [], "mode": services.GLOBAL,
        "networks": ["host"],
    }  # fmt: skip
    mark = services.wanted_of({**service, "labels": {"image": given["image"]}})[:12]
    return {
        **service, "name": PREFIX + mark, "mark": mark, "labels": {LABEL: mark}, "constraints": [f"node.labels.{LABEL}=={mark}"],
    }  # fmt: skip


def label_of(raw: dict[str, Any]) -> str:
    """Return which service a member has. Pure."""
    return str((raw["Spec"].get("Labels") or {}).get(LABEL, ""))


def member(node_id: str) -> dict[str, Any]:
    """Return a member as the engine has it. Raises TaskFailed where this manager knows none."""
    raw = swarm.member(node_id)
    if raw is None:
        raise TaskFailed(f"This manager knows no node {node_id}; see 'docker node ls' there.")
    return raw


def put_label(node_id: str, mark: str) -> None:
    """Say which service a member has; an empty text is none."""
    raw = member(node_id)
    labels = {name: value for name, value in (raw["Spec"].get("Labels") or {}).items() if name != LABEL}
    if mark:
        labels[LABEL] = mark
    swarm.change(raw, {**raw["Spec"], "Labels": labels})


@contextmanager
def alone() -> Iterator[None]:
    """While it is open no other run on this manager makes such services, or removes those without nodes."""
    with open(LOCK, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tasks_of(mark: str, node_id: str) -> list[dict[str, Any]]:
    """Return the tasks of a service on a node, newest first."""
    name = PREFIX + mark
    if services.look(name) is None:  # the engine refuses to filter by a name that it does not know
        return []
    filters = json.dumps({"service": [name], "node": [node_id]})
    found = swarm.ask("GET", "/tasks?filters=" + quote(filters)) or []
    return sorted(found, key=lambda task: str(task.get("CreatedAt")), reverse=True)


def running(tasks: list[dict[str, Any]]) -> str:
    """Return the id of the task that runs and shall; empty where there is none. Pure."""
    for task in tasks:
        if task["DesiredState"] == "running" and task["Status"]["State"] == "running":
            return str(task["ID"])
    return ""


def reason(tasks: list[dict[str, Any]]) -> str:
    """Return what the newest task that complains says, as the end of a sentence; empty where none does. Pure."""
    for task in tasks:
        said = str(task["Status"].get("Err") or "").strip().rstrip(".")
        if said:
            return said + "."
    return ""


def bring(node_id: str, service: dict[str, Any], seconds: int) -> None:
    """Have a node run its agent so, and wait until it does. Raises TaskFailed, ServiceFailed and SwarmFailed."""
    old = ids_of(service["mark"], node_id)
    with alone():
        if services.look(service["name"]) is None:
            services.create(service)
        put_label(node_id, service["mark"])
    steady(node_id, service["mark"], old, seconds)
    with alone():
        tidy()


def ids_of(mark: str, node_id: str) -> set[str]:
    """Return the ids of the tasks of a service on a node."""
    return {str(task["ID"]) for task in tasks_of(mark, node_id)}


def steady(node_id: str, mark: str, old: set[str], seconds: int) -> None:
    """Wait until the node's task runs and keeps running. Raises TaskFailed with what it said; ``old`` tasks do not count as failed."""
    deadline, since, last = time.monotonic() + seconds, time.monotonic(), ""
    while True:
        tasks = tasks_of(mark, node_id)
        now = running(tasks)
        if now != last:
            since, last = time.monotonic(), now
        if now and time.monotonic() - since >= STEADY_SECONDS:
            return
        failed = [task for task in tasks if task["ID"] not in old and task["Status"]["State"] in ("failed", "rejected")]
        late = time.monotonic() > deadline
        if len(failed) >= FAILURES or late:
            told = reason(failed) or reason(tasks) or "no task says why; see 'docker service ps' on the manager."
            raise TaskFailed(f"The agent's container does not run{f' after {seconds} s' if late else ''}: {told}")
        time.sleep(LOOK_SECONDS)


def leave(node_id: str) -> None:
    """Have a node run no agent so. That its container has ended is known to the node alone: Swarm calls its task rejected at once."""
    with alone():
        put_label(node_id, "")
        tidy()


def tidy() -> None:
    """Remove those services that no node's label names."""
    done = docker("service", "ls", "--filter", f"label={LABEL}", "--format", "{{.Name}}")
    named = {PREFIX + each["labels"].get(LABEL, "") for each in swarm.members()}
    for name in done.stdout.split() if done.returncode == 0 else []:
        if name.startswith(PREFIX) and name not in named:
            services.remove(name)

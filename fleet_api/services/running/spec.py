"""A service as callers have it, as the specification that Docker's API wants, and back. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

from fleet_api.errors import InvalidValue
from fleet_api.services.mounts import MountRules
from fleet_api.services.running.constraints import Constraint
from fleet_api.services.running.placement import Wanted
from fleet_api.services.running.schemas import HealthBody, ResourcesBody, RestartBody, ServiceBody, ServiceChange, UpdateBody

GPU = "NVIDIA-GPU"
MADE_BY = "fleet.commander"
CLUSTER = re.compile(r"\s*node\.labels\.cluster\s*==", re.IGNORECASE)
Spec = dict[str, Any]


def made(body: ServiceBody, rules: MountRules) -> Spec:
    """Return the specification of a new service. Raises InvalidValue for mounts, constraints and ports that cannot be."""
    if body.mode == "global" and body.replicas != 1:
        raise InvalidValue(f"replicas: {body.replicas} is not allowed; a global service has one task on each node.")
    _check_ports(body)
    container: Spec = {
        "Image": body.image,
        "Env": list(body.env),
        "Mounts": [rules.checked(each.source, each.target, each.read_only).as_spec() for each in body.mounts],
    }
    if body.command:
        container["Command"] = list(body.command)
    if body.health is not None:
        container["Healthcheck"] = _health(body.health)
    return {
        "Name": body.name,
        "Labels": {MADE_BY: "true"},
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": _resources(body.resources),
            "RestartPolicy": _restart(body.restart),
            "Placement": {"Constraints": _constraints(body)},
            "ForceUpdate": 0,
        },
        "Mode": {"Global": {}} if body.mode == "global" else {"Replicated": {"Replicas": body.replicas}},
        "UpdateConfig": _update(body.update),
        "RollbackConfig": {**_update(body.update), "FailureAction": "pause"},
        "EndpointSpec": _endpoint(body),
    }


def changed(spec: Spec, change: ServiceChange) -> Spec:
    """Return a specification with what a caller changes."""
    new = copy.deepcopy(spec)
    container = new["TaskTemplate"]["ContainerSpec"]
    if change.image is not None:
        container["Image"] = change.image
    if change.env is not None:
        container["Env"] = list(change.env)
    if change.command is not None:
        container["Command"] = list(change.command)
    if change.constraints is not None:
        new["TaskTemplate"].setdefault("Placement", {})["Constraints"] = [str(Constraint.parse(text)) for text in change.constraints]
    if change.resources is not None:
        new["TaskTemplate"]["Resources"] = _resources(change.resources, new["TaskTemplate"].get("Resources"))
    if change.update is not None:
        new["UpdateConfig"] = _update(change.update)
    if change.restart is not None:
        new["TaskTemplate"]["RestartPolicy"] = _restart(change.restart)
    if change.replicas is not None:
        new = scaled(new, change.replicas)
    return new


def in_cluster(spec: Spec, cluster: str) -> list[str]:
    """Return a specification's constraints with this cluster in place of any other."""
    now = (spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
    others = [text for text in now if not CLUSTER.match(text)]
    return [*others, str(Constraint.parse(f"node.labels.cluster=={cluster}"))]


def scaled(spec: Spec, replicas: int) -> Spec:
    """Return a specification with another number of tasks. Raises InvalidValue for a global service."""
    if "Replicated" not in spec["Mode"]:
        raise InvalidValue(f"replicas: {replicas} is not allowed; {spec['Name']} is global, with one task on each node.")
    return {**spec, "Mode": {"Replicated": {"Replicas": replicas}}}


def wanted(spec: Spec, arch: str | None = None) -> Wanted:
    """Return what a specification needs of nodes."""
    template = spec["TaskTemplate"]
    reserved = (template.get("Resources") or {}).get("Reservations") or {}
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or []
    return Wanted(
        image=template["ContainerSpec"]["Image"],
        constraints=tuple(Constraint.parse(text) for text in (template.get("Placement") or {}).get("Constraints") or ()),
        gpus=gpus(spec), cpus=(reserved.get("NanoCPUs") or 0) / 1e9, memory_bytes=reserved.get("MemoryBytes") or 0,
        replicas=replicas_of(spec), arch=arch, ingress=any(port.get("PublishMode", "ingress") == "ingress" for port in ports),
    )  # fmt: skip


def replicas_of(spec: Spec) -> int | None:
    """Return how many tasks are wanted; None for one on each node."""
    replicated = spec["Mode"].get("Replicated")
    return None if replicated is None else int(replicated.get("Replicas") or 0)


def gpus(spec: Spec) -> int:
    """Return how many GPUs a task has."""
    reserved = ((spec["TaskTemplate"].get("Resources") or {}).get("Reservations") or {}).get("GenericResources") or []
    found = [each.get("DiscreteResourceSpec") or {} for each in reserved]
    return sum(int(each.get("Value") or 0) for each in found if each.get("Kind") == GPU)


def _check_ports(body: ServiceBody) -> None:
    seen: set[tuple[int, str]] = set()
    for port in body.ports:
        if port.published_port is None:
            continue
        key = (port.published_port, port.protocol)
        if key in seen:
            raise InvalidValue(f"ports: published_port {port.published_port} is not allowed twice.")
        seen.add(key)


def _constraints(body: ServiceBody) -> list[str]:
    found: Sequence[str] = [*body.constraints, *([f"node.labels.cluster=={body.cluster}"] if body.cluster else [])]
    return list(dict.fromkeys(str(Constraint.parse(text)) for text in found))


def _resources(body: ResourcesBody, now: Spec | None = None) -> Spec:
    """Return what a task reserves: what is given, and of what it has ``now`` the rest."""
    found = dict(now or {})
    reserved: Spec = dict(found.pop("Reservations", None) or {})
    if body.cpus:
        reserved["NanoCPUs"] = int(body.cpus * 1e9)
    if body.memory_mib:
        reserved["MemoryBytes"] = body.memory_mib * 2**20
    if body.gpu is not None:
        others = [each for each in reserved.pop("GenericResources", None) or [] if GPU not in _kinds(each)]
        wanted = [{"DiscreteResourceSpec": {"Kind": GPU, "Value": body.gpu}}] if body.gpu else []
        if others or wanted:
            reserved["GenericResources"] = [*others, *wanted]
    return {**found, "Reservations": reserved} if reserved else found


def _kinds(resource: Spec) -> set[str]:
    """Return what a generic resource is, however it is counted."""
    return {str(each.get("Kind")) for each in resource.values()}


def _restart(body: RestartBody) -> Spec:
    found: Spec = {"Condition": body.condition, "Delay": _nanoseconds(body.delay_seconds)}
    if body.max_attempts is not None:
        found["MaxAttempts"] = body.max_attempts
    return found


def _update(body: UpdateBody) -> Spec:
    return {
        "Parallelism": body.parallelism,
        "Delay": _nanoseconds(body.delay_seconds),
        "Monitor": _nanoseconds(body.monitor_seconds),
        "FailureAction": body.failure_action,
        "MaxFailureRatio": 0,
        "Order": body.order,
    }


def _health(body: HealthBody) -> Spec:
    test = body.test if body.test[0] in ("CMD", "CMD-SHELL", "NONE") else ["CMD", *body.test]
    return {
        "Test": list(test),
        "Interval": _nanoseconds(body.interval_seconds),
        "Timeout": _nanoseconds(body.timeout_seconds),
        "Retries": body.retries,
        "StartPeriod": _nanoseconds(body.start_seconds),
    }


def _endpoint(body: ServiceBody) -> Spec:
    """Without ingress ports no virtual address is wanted: that too takes IP_VS."""
    ports = [
        {
            "Protocol": port.protocol,
            "TargetPort": port.target_port,
            "PublishMode": port.mode,
            **({"PublishedPort": port.published_port} if port.published_port else {}),
        }
        for port in body.ports
    ]
    mode = "vip" if any(port.mode == "ingress" for port in body.ports) else "dnsrr"
    return {"Mode": mode, "Ports": ports}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)

"""Why no node can hold a service's tasks, before the swarm waits for ever. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_api.services.running import l4t
from fleet_api.services.running.constraints import ARCHITECTURES, Constraint
from fleet_api.services.swarm.schemas import gpus_of

Node = Mapping[str, Any]
SHOWN = 4  # nodes that a sentence names


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one task needs, and how many there shall be (None: one on each node). ``arch`` is the image's, where it is known."""

    image: str
    constraints: tuple[Constraint, ...] = ()
    gpus: int = 0
    cpus: float = 0.0
    memory_bytes: int = 0
    replicas: int | None = 1
    arch: str | None = None
    ingress: bool = False


def refusal(wanted: Wanted, nodes: Sequence[Node], without_ipvs: Sequence[str] = ()) -> str | None:
    """Return why the swarm cannot hold this, as a sentence; None where it can."""
    if wanted.replicas == 0:
        return None
    if wanted.ingress and without_ipvs:
        return (
            f"ports: mode 'ingress' wants IP_VS in the kernel, which not every node has ({_named(without_ipvs)}); publish with mode 'host'."
        )
    reasons = {_name(node): reason for node in nodes if (reason := _reason(wanted, node)) is not None}
    fit = [node for node in nodes if _name(node) not in reasons]
    if not fit:
        told = "; ".join(f"{name} {reason}" for name, reason in list(reasons.items())[:SHOWN])
        more = f"; and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
        return f"No node can hold a task of this: {told or 'the swarm has no nodes'}{more}."
    room = sum(gpus_of(node) // wanted.gpus for node in fit) if wanted.gpus else None
    if room is not None and wanted.replicas is not None and wanted.replicas > room:
        return (
            f"replicas: {wanted.replicas} tasks with {wanted.gpus} GPU{'s' if wanted.gpus > 1 else ''} each do not fit; the nodes "
            f"that may hold them have room for {room}."
        )
    return None


def _reason(wanted: Wanted, node: Node) -> str | None:
    spec, status = node.get("Spec") or {}, node.get("Status") or {}
    if status.get("State") != "ready":
        return f"is {status.get('State') or 'unknown'}"
    if spec.get("Availability", "active") != "active":
        return "is drained" if spec.get("Availability") == "drain" else "is paused"
    for constraint in wanted.constraints:
        if not constraint.met_by(node):
            return f"does not meet {constraint}"
    description = node.get("Description") or {}
    resources = description.get("Resources") or {}
    if wanted.gpus > gpus_of(node):
        return f"offers {gpus_of(node) or 'no'} NVIDIA-GPU"
    if wanted.cpus * 1e9 > (resources.get("NanoCPUs") or 0):
        return f"has {(resources.get('NanoCPUs') or 0) / 1e9:g} CPUs"
    if wanted.memory_bytes > (resources.get("MemoryBytes") or 0):
        return f"has {(resources.get('MemoryBytes') or 0) // 2**20} MiB of memory"
    arch = (description.get("Platform") or {}).get("Architecture")
    if wanted.arch and arch and ARCHITECTURES.get(arch, arch) != ARCHITECTURES.get(wanted.arch, wanted.arch):
        return f"is {ARCHITECTURES.get(arch, arch)}, and the image is for {wanted.arch}"
    return _l4t_reason(wanted.image, spec.get("Labels") or {})


def _l4t_reason(image: str, labels: Mapping[str, str]) -> str | None:
    needs = l4t.of_image(image)
    if needs is None:
        return None
    host = l4t.parsed(labels.get("l4t", ""))
    if host is None:
        return f"is not known as a Jetson, and the image is for L4T {l4t.shown(needs)}"
    return None if l4t.fits(host, needs) else f"has L4T {l4t.shown(host)}, which does not run images for {l4t.shown(needs)}"


def _name(node: Node) -> str:
    return str((node.get("Description") or {}).get("Hostname") or node.get("ID"))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

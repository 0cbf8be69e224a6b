"""Which node is to fetch what: decided from the jobs that wait and from what people told nodes to load. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fleet_api.models.kinds import CHECKPOINT, LORA
from fleet_api.nodes.live import LiveNode
from fleet_api.scheduling.eligibility import could_serve
from fleet_api.scheduling.types import WaitingJob
from fleet_api.scheduling.waiting import WaitingQueue

Key = tuple[str, str]


class Need(NamedTuple):
    """So many jobs wait that want these stored things; ``job`` stands for them."""

    job: WaitingJob
    keys: frozenset[Key]
    jobs: int


def needs(queue: WaitingQueue, usable: frozenset[Key]) -> Iterator[Need]:
    """Yield what waiting jobs want of the store, the most urgent first."""
    for tier in queue.tiers():
        for key, group in tier.groups.items():
            for sampler, loras, jobs in group.lanes():
                wanted = frozenset(each for each in ((CHECKPOINT, key.model or ""), *((LORA, name) for name in loras)) if each in usable)
                if wanted:
                    job = WaitingJob("", key.job_type, key.model, cluster=key.cluster, node=key.node, sampler=sampler, loras=loras)
                    yield Need(job, wanted, jobs)


def holds(node: LiveNode, key: Key) -> bool:
    """Return whether the node can use it now."""
    skills = node.worker.skills
    return key[1] in (skills.models if key[0] == CHECKPOINT else skills.loras)


def distribute(
    found: Iterable[Need], nodes: list[LiveNode], able: Callable[[LiveNode], bool], failing: Callable[[LiveNode, Key], bool]
) -> dict[str, list[Key]]:
    """Return what each node is to fetch: for a need no more nodes have it, or fetch it, than jobs wait for it.

    Those that have it come first, then those that fetch it, then those with nothing to do.
    """
    wanted: dict[str, list[Key]] = {}
    for need in found:
        serving = [node for node in nodes if able(node) and could_serve(need.job, node.worker)]
        serving = [node for node in serving if not any(failing(node, key) for key in need.keys)]

        def lacks(node: LiveNode, keys: frozenset[Key] = need.keys) -> list[Key]:
            return [key for key in sorted(keys) if not holds(node, key)]

        def rank(node: LiveNode, keys: frozenset[Key] = need.keys) -> tuple[bool, bool, bool, str]:
            begun = {(each.type, each.name) for each in (*node.cache.fetching, *node.cache.held)}
            return bool(lacks(node)), not (keys & begun), bool(node.jobs), node.id

        for node in sorted(serving, key=rank)[: need.jobs]:
            for key in lacks(node):
                if key not in wanted.setdefault(node.id, []):
                    wanted[node.id].append(key)
    return wanted

"""Whose turn it is among the callers of one priority: who has seen most jobs of others start while jobs of their own waited."""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedDict, SortedSet

from fleet_api.scheduling.types import Order, WaitingJob


class Turns:
    """The waiting jobs by caller, and how many jobs were started before each caller's last start or, if later, arrival."""

    __slots__ = ("_jobs", "_order", "_since", "_starts")

    def __init__(self) -> None:
        self._starts = 0
        self._since: dict[str, int] = {}
        self._order: SortedSet[tuple[int, str]] = SortedSet()
        self._jobs: dict[str, SortedDict[Order, WaitingJob]] = {}

    def came(self, job: WaitingJob) -> None:
        """Take a job in."""
        if job.caller not in self._jobs:
            self._jobs[job.caller] = SortedDict()
            self._turn(job.caller)
        self._jobs[job.caller][job.order] = job

    def left(self, job: WaitingJob, started: bool) -> None:
        """Note that a job has gone, because it was ``started`` or otherwise."""
        self._starts += started
        jobs = self._jobs[job.caller]
        del jobs[job.order]
        if not jobs:
            del self._jobs[job.caller]
            self._order.discard((self._since.pop(job.caller), job.caller))
        elif started:
            self._turn(job.caller)

    def due(self, each: int) -> Iterator[WaitingJob]:
        """Yield the oldest job of callers who have seen ``each`` jobs start for every other caller who waits, the longest first."""
        if len(self._order) < 2:
            return
        limit = each * (len(self._order) - 1)
        for since, caller in self._order:
            if self._starts - since < limit:
                return
            yield self._jobs[caller].peekitem(0)[1]

    def _turn(self, caller: str) -> None:
        if caller in self._since:
            self._order.discard((self._since[caller], caller))
        self._since[caller] = self._starts
        self._order.add((self._starts, caller))

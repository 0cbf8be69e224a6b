"""Has a node build the engines of a model: an operation that tells the agent, in each answer to its beats, and shows what the beats say.

The order is not sent once but stands for as long as the operation does: an agent that restarts goes on where it was, and one that is
not told of it any more gives it up. What was built by then is kept.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import Any

from fleet_api.engines.schemas import BuildBody
from fleet_api.errors import Conflict, NotFound, Unavailable
from fleet_api.kit.clock import Clock
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from gpu_inference.protocol_engines import BuildOrder, BuildReport

KIND = "engine_build"
SILENT_SECONDS = 600.0
"""A node that is silent for so long has gone, and its order with it."""

LOOK_SECONDS = 1.0
DONE, FAILED, GIVING = "done", "failed", "giving"
_TOO_OLD = (
    "The agent on node {0!r} is of a release that builds no engines with LoRAs in their weights;"
    " update it with 'fleet vision install {0}', or leave the LoRAs out."
)
_WAITING_PERCENT, _BUILT_PERCENT = 1.0, 95.0


class EngineBuilds:
    """One instance a process, used on the event loop only; the kind ``engine_build``."""

    name = KIND
    waits_only = True

    def __init__(self, nodes: NodeService, operations: OperationService, clock: Clock) -> None:
        self._nodes = nodes
        self._operations = operations
        self._clock = clock
        self._orders: dict[str, BuildOrder] = {}
        self._reports: dict[str, BuildReport] = {}
        self._told: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        operations.kinds.add(self)

    async def start(self, node_id: str, body: BuildBody, caller: str) -> Operation:
        """Queue a build.

        Raises NotFound for a node, or what it does not have, Conflict where its agent cannot build, Unavailable while offline.
        """
        node = self._nodes.get(node_id)
        there = sorted(each.name for each in node.capabilities.models)
        if body.model not in there:
            raise NotFound(f"model: node {node_id!r} has no model {body.model!r}; it has: {', '.join(there) or 'none'}.")
        if not node.online:
            raise Unavailable(f"Node {node_id!r} is offline; its engines can be built once its agent is back.")
        if not node.capabilities.builds:
            raise Conflict(
                f"The agent on node {node_id!r} finds no TensorRT, so it builds no engines: it runs models with {_backend(node)}."
            )
        request: dict[str, Any] = {"node_id": node_id, "model": body.model}
        if body.loras:
            if not node.capabilities.builds_loras:
                raise Conflict(_TOO_OLD.format(node_id))
            _check_loras(node, body)
            request["loras"] = [{"name": each.name, "strength": each.strength} for each in body.loras]
        return await self._operations.submit(KIND, request, caller=caller)

    def heard(self, node: LiveNode, report: BuildReport | None) -> BuildOrder | None:
        """Take in what a beat says, and return what the answer is to say."""
        order = self._orders.get(node.id)
        if order is not None and report is not None and report.id == order.id:
            self._reports[node.id] = report
            self._told[node.id].set()
        return None if order is not None and order.loras and not node.capabilities.builds_loras else order

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        loras = ", ".join(f"{each['name']}:{each['strength']:g}" for each in request.get("loras", []))
        return f"Build the engines of {request['model']}{loras and ' with '}{loras} on {request['node_id']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        return [request["node_id"]]

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        return request

    async def run(self, work: Work) -> None:
        """See :class:`fleet_api.operations.kinds.Kind`."""
        node_id, model = work.request["node_id"], work.request["model"]
        work.nodes([node_id])
        self._orders[node_id] = BuildOrder(id=work.id, model=model, loras=work.request.get("loras", []))
        try:
            await self._follow(work, node_id)
        finally:
            for held in (self._orders, self._reports, self._told):
                held.pop(node_id, None)
        report = work.result
        work.tell("done", f"{model}: {report['built']} engines were built, {report['fetched']} were fetched.", node_id)

    async def _follow(self, work: Work, node_id: str) -> None:
        work.step("telling the agent", 0.0)
        shown, heard = ("", ""), self._clock.monotonic()
        while True:
            report = self._reports.get(node_id)
            if report is not None:
                if (report.state, report.what) != shown:
                    shown = report.state, report.what
                    work.tell("progress", _words(report), node_id)
                work.step(_words(report), _percent(report))
                work.result.update(node_id=node_id, model=work.request["model"], built=report.built, fetched=report.fetched)
                if report.state == FAILED:
                    raise OperationFailed(report.error or "The agent gives no reason.")
                if report.state == DONE:
                    return
            self._told[node_id].clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._told[node_id].wait()
            now = self._clock.monotonic()
            if self._there(node_id):
                heard = now
                if work.request.get("loras") and not self._nodes.get(node_id).capabilities.builds_loras:  # it was put back to an older one
                    raise OperationFailed(_TOO_OLD.format(node_id))
            elif now - heard > SILENT_SECONDS:
                raise OperationFailed(
                    f"Node {node_id!r} has been silent for {SILENT_SECONDS / 60:.0f} minutes; look at it, then try again."
                )

    def _there(self, node_id: str) -> bool:
        try:
            return self._nodes.get(node_id).online
        except NotFound:
            raise OperationFailed(f"Node {node_id!r} was removed meanwhile.") from None


def _check_loras(node: LiveNode, body: BuildBody) -> None:
    there = sorted(each.name for each in node.capabilities.loras if each.base_model == body.model)
    lacking = next((each.name for each in body.loras if each.name not in there), None)
    if lacking is not None:
        raise NotFound(
            f"loras: node {node.id!r} has no LoRA {lacking!r} of the model {body.model!r}; it has: {', '.join(there) or 'none'}."
            " It fetches a stored one when a job names it."
        )


def _backend(node: LiveNode) -> str:
    return node.capabilities.backend or "no engine"


def _words(report: BuildReport) -> str:
    said = f"{report.state} {report.what}".strip()
    return f"{said} ({report.done} of {report.total})" if report.total and report.state not in (DONE, GIVING) else said


def _percent(report: BuildReport) -> float:
    if report.state in (DONE, GIVING):
        return _BUILT_PERCENT
    return _WAITING_PERCENT + (_BUILT_PERCENT - _WAITING_PERCENT) * report.done / report.total if report.total else _WAITING_PERCENT

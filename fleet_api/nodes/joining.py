"""Every machine that the last scan found, onboarded: an operation that is the sum of one each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from fleet_api.access.vault.models import Credential
from fleet_api.access.vault.service import VaultService
from fleet_api.errors import Conflict, FleetError
from fleet_api.nodes.bodies import JoinBody
from fleet_api.nodes.discovery.service import Scan
from fleet_api.nodes.onboarding import Onboarding
from fleet_api.nodes.service import NodeService
from fleet_api.nodes.states import NodeState
from fleet_api.operations.models import Operation
from fleet_api.operations.service import OperationService
from fleet_api.operations.states import ENDED, OperationState
from fleet_api.operations.work import OperationFailed, Work

JOIN_ALL = "join_all"
SSH_PORT = 22


def candidates(scan: Scan | None, nodes: NodeService, own: frozenset[str], coming: frozenset[str]) -> list[str]:
    """Return the addresses of a scan that are open to SSH and no node yet, without this machine's ``own`` and those that are ``coming``.

    Raises Conflict before the first scan, and when there is nothing to do.
    """
    if scan is None:
        raise Conflict("No scan was made since the start: GET /api/network/scan?subnet=192.0.2.0/24 first, with your own subnet.")
    found = [each.ip for each in scan.devices if SSH_PORT in each.ports and each.ip not in own | coming]
    left = [ip for ip in found if (node := nodes.at(ip, SSH_PORT)) is None or node.row.state in (NodeState.DISCOVERED, NodeState.RETIRED)]
    if not left:
        known = "a node already, or being made one" if coming else "a node already"
        raise Conflict(f"The scan of {scan.subnet} found no machine that is not {known}; scan another subnet, or with refresh=true.")
    return left


class JoiningAll:
    """The kind ``join_all``. It runs nothing itself, so it takes none of the places of operations at work."""

    name = JOIN_ALL
    waits_only = True

    def __init__(self, operations: OperationService, onboarding: Onboarding, vault: VaultService) -> None:
        self._operations = operations
        self._vault = vault
        self._onboarding = onboarding

    async def start(self, addresses: Sequence[str], credential_id: str | None, cluster: str | None, caller: str) -> Operation:
        """Queue the operation that onboards each address and sums them up; without a credential, with the only one there is.

        Raises NotFound for an unknown credential, Conflict where there is none, or a choice; Unavailable for a loopback API.
        """
        self._onboarding.check_reachable()
        chosen = await self._vault.get(credential_id) if credential_id else await self._only_credential()
        request = {"addresses": list(addresses), "credential_id": chosen.id, "cluster": cluster, "caller": caller}
        return await self._operations.submit(JOIN_ALL, request, caller=caller)

    async def _only_credential(self) -> Credential:
        found = [row for row, _ in await self._vault.page(limit=2)]
        if len(found) != 1:
            how = "the vault is empty; POST /api/vault first" if not found else "the vault holds several"
            raise Conflict(f"credential_id: name the credential, as {how}.")
        return found[0]

    def title(self, request: dict[str, Any]) -> str:
        """See :class:`Kind`."""
        count = len(request["addresses"])
        return f"Onboard {count} machine{'s' if count != 1 else ''}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        """See :class:`Kind`."""
        return []

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """See :class:`Kind`."""
        done = {address for address, state in result.get("machines", {}).items() if state == OperationState.SUCCEEDED}
        return {**request, "addresses": [each for each in request["addresses"] if each not in done]}

    async def run(self, work: Work) -> None:
        """See :class:`Kind`."""
        request, parts, states, reasons = work.request, {}, {}, {}
        for address in request["addresses"]:
            body = JoinBody(ip=address, credential_id=request["credential_id"], cluster=request["cluster"])
            try:
                parts[address] = (await self._onboarding.join(body, request["caller"], parent_id=work.id)).id
            except FleetError as error:
                states[address], reasons[address] = OperationState.FAILED, error.detail
        async for address, row in _as_they_end(parts, self._operations.get):
            states[address] = OperationState(row.state)
            if row.reason and row.state != OperationState.SUCCEEDED:
                reasons[address] = row.reason
            work.nodes(sorted({*work.operation.node_ids, *row.node_ids}))
            work.tell("machine", f"{address}: {row.state}{': ' + reasons[address] if address in reasons else ''}")
            work.step(f"{len(states)} of {len(request['addresses'])}", 100.0 * len(states) / len(request["addresses"]))
        work.result.update({"machines": states, "operations": parts, "reasons": reasons})
        failed = [address for address, state in states.items() if state != OperationState.SUCCEEDED]
        if failed:
            first = reasons.get(failed[0], str(states[failed[0]]))
            raise OperationFailed(f"{len(failed)} of {len(states)} machines were not onboarded; the first, {failed[0]}: {first}")


async def _as_they_end(parts: dict[str, str], get: Callable[[str], Any]) -> Any:
    """Yield (address, operation) for each part that has ended."""
    left = dict(parts)
    while left:
        for address, operation_id in list(left.items()):
            row = await get(operation_id)
            if row.state in ENDED:
                del left[address]
                yield address, row
        if left:
            await asyncio.sleep(0.2)

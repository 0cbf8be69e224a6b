"""From whom a node fetches a file: a neighbour that has it, else the store, which few ask at once. So a fleet fetches a model from
the store once or twice, and each node that has it serves two others: the number of copies doubles with each round.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fleet_api.kit.clock import Clock
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from gpu_inference.protocol import SourceReply, SourceRequest, ticket_of

FROM_STORE = 2
"""So many nodes fetch from the store at once."""

FROM_NEIGHBOUR = 2
"""So many nodes fetch from one neighbour at once."""

SILENT_SECONDS = 20.0
"""A fetch of which no beat tells for so long has ended."""

WAIT_SECONDS = 1.0
OVERTAKEN_SECONDS = 3.0
KEY_SECONDS = 600.0
STORE = ""


@dataclass(slots=True)
class Fetch:
    """One node fetching one file; ``source`` is a node's id, or :data:`STORE`."""

    source: str
    sha256: str
    shares: bool
    heard: float


class Sources:
    """One instance a process, used on the event loop only."""

    def __init__(self, nodes: NodeService, clock: Clock) -> None:
        self._nodes = nodes
        self._clock = clock
        self._fetches: dict[str, Fetch] = {}
        self._secret = secrets.token_bytes(32)
        self._told: dict[str, tuple[float, set[str]]] = {}

    def key_of(self, node: LiveNode) -> str:
        """Return what tickets for this node's files are made with now."""
        epoch = int(self._clock.monotonic() // KEY_SECONDS)
        return hmac.new(self._secret, f"{node.id} {epoch}".encode(), hashlib.sha256).hexdigest()

    def heard(self, node: LiveNode) -> None:
        """Note what a beat told of the node's files and fetch; one that was on its way may be older than the node's last question."""
        told, files = self._told.get(node.id, (float("-inf"), set()))
        if self._clock.monotonic() - told < OVERTAKEN_SECONDS:
            node.cache.files = sorted({*node.cache.files, *files})
        fetch = self._fetches.get(node.id)
        if fetch is None:
            return
        if any(each.file == fetch.sha256 for each in node.cache.fetching):
            fetch.heard = self._clock.monotonic()
        elif fetch.sha256 in node.cache.files or any(each.error for each in node.cache.failed):
            del self._fetches[node.id]

    def choose(self, node: LiveNode, request: SourceRequest) -> SourceReply:
        """Return where the node is to fetch a file from now, or that it is to wait."""
        now = self._clock.monotonic()
        self._fetches.pop(node.id, None)
        node.cache.files = list(request.files)
        self._told[node.id] = now, set(request.files)
        self._fetches = {name: each for name, each in self._fetches.items() if now - each.heard < SILENT_SECONDS}
        busy = [each.source for each in self._fetches.values()]
        having = [each for each in self._nodes.all() if self._serves(each, node, request)]
        free = [each for each in having if busy.count(each.id) < FROM_NEIGHBOUR]
        if free:
            best = min(free, key=lambda each: (busy.count(each.id), each.id))
            self._note(node, best.id, request.sha256, now)
            host = f"[{best.peer}]" if ":" in best.peer else best.peer
            url = f"http://{host}:{best.cache.share_port}/files/{request.sha256}"
            return SourceReply(kind="neighbour", url=url, ticket=ticket_of(self.key_of(best), request.sha256), node_id=best.id)
        soon = any(each.sha256 == request.sha256 and each.shares for each in self._fetches.values())
        if having or soon or busy.count(STORE) >= FROM_STORE:
            return SourceReply(kind="wait", wait_seconds=WAIT_SECONDS)
        self._note(node, STORE, request.sha256, now)
        return SourceReply(kind="store")

    def _serves(self, other: LiveNode, node: LiveNode, request: SourceRequest) -> bool:
        return (
            other.id != node.id
            and other.online
            and bool(other.cache.share_port and other.peer)
            and other.id not in request.failed
            and request.sha256 in other.cache.files
        )

    def _note(self, node: LiveNode, source: str, sha256: str, now: float) -> None:
        self._fetches[node.id] = Fetch(source, sha256, bool(node.cache.share_port), now)

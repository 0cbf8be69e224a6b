"""What nodes are told of the model store: what to fetch, from whom, and what to drop. Said anew in each answer to a beat."""

from __future__ import annotations

from collections import Counter

from fleet_api.errors import NotFound
from fleet_api.jobs.index import QueueIndex
from fleet_api.kit.clock import Clock
from fleet_api.models.demand import Key, distribute, holds, needs
from fleet_api.models.kinds import CHECKPOINT, LORA
from fleet_api.models.models import StoredModel
from fleet_api.models.sources import Sources
from fleet_api.models.store import ModelStore
from fleet_api.nodes.live import LiveNode
from fleet_api.nodes.service import NodeService
from fleet_api.scheduling.types import Skills
from gpu_inference.protocol import Beat, BeatReply, SourceRequest, StoredFile, StoredItem, StoredKey


class Fetching:
    """One instance a process, used on the event loop only."""

    def __init__(self, nodes: NodeService, models: ModelStore, index: QueueIndex, clock: Clock) -> None:
        self._nodes = nodes
        self._models = models
        self._index = index
        self._clock = clock
        self._usable: frozenset[Key] = frozenset()
        self.sources = Sources(nodes, clock)
        self.served: Counter[tuple[str, str, str]] = Counter()
        """How often each file (type, name, file) was fetched from the store."""

    def check(self, asked: SourceRequest) -> None:
        """Raise NotFound unless the file is one of what is named."""
        row = self._models.find(asked.type, asked.name)
        if row is None or all(each["sha256"] != asked.sha256 for each in row.files):
            raise NotFound(f"The store has no such file of {asked.name!r} any more.")

    def changed(self) -> None:
        """Tell every node what the store has for it now."""
        rows = [row for row in self._models.rows().values() if not row.note]
        self._usable = frozenset((row.type, row.name) for row in rows)
        offered = {kind: frozenset(row.name for row in rows if row.type == kind) for kind in (CHECKPOINT, LORA)}
        sizes = {row.name: row.size for row in rows if row.type == CHECKPOINT}
        self._nodes.offer(Skills(models=offered[CHECKPOINT], loras=offered[LORA]), sizes)

    async def plan(self) -> None:
        """Decide what each node is to fetch."""
        now = self._clock.monotonic()
        nodes = [node for node in self._nodes.all() if node.capabilities.fetches]
        wanted: dict[str, list[Key]] = {}
        if self._usable and nodes:
            found = needs(self._index.waiting, self._usable)
            wanted = distribute(found, nodes, lambda node: node.online and node.barred(now) is None, _failing)
        for node in nodes:
            keys = wanted.get(node.id, [])
            wish = (CHECKPOINT, node.wish or "")
            if node.wish in node.worker.to_come.models and not holds(node, wish) and wish not in keys:
                keys = [wish, *keys]
            node.wanted = [StoredKey(type=kind, name=name) for kind, name in keys]

    def hear(self, node: LiveNode, beat: Beat, peer: str) -> None:
        """Take in what a beat tells of the node's cache."""
        node.peer = peer
        if beat.cache is not None:
            node.cache = beat.cache
            self.sources.heard(node)

    def word(self, node: LiveNode, reply: BeatReply) -> BeatReply:
        """Add what the node is to hear to the answer to its beat."""
        if not node.capabilities.fetches:
            return reply
        rows = self._models.rows()
        wanted = [rows[each.type, each.name] for each in node.wanted if (each.type, each.name) in rows]
        reply.wanted = [_item(row) for row in wanted]
        for each in (*node.cache.held, *node.cache.fetching):
            row = rows.get((each.type, each.name))
            if row is None or (getattr(each, "sha256", row.sha256) != row.sha256):
                reply.drop.append(StoredKey(type=each.type, name=each.name))
        if node.cache.share_port:
            reply.share_key = self.sources.key_of(node)
        return reply

    def on(self, kind: str, name: str) -> list[str]:
        """Return the nodes that have it in their cache."""
        return [node.id for node in self._nodes.all() if any((each.type, each.name) == (kind, name) for each in node.cache.held)]

    def own(self, kind: str, name: str) -> bool:
        """Say whether a name is in use by what came with some agent's own software: what nodes have and did not fetch."""
        for node in self._nodes.all():
            here = node.capabilities.models if kind == CHECKPOINT else node.capabilities.loras
            held = any((each.type, each.name) == (kind, name) for each in node.cache.held)
            if not held and any(each.name == name and not each.fetched for each in here):
                return True
        return False


def _failing(node: LiveNode, key: Key) -> bool:
    return any((each.type, each.name) == key for each in node.cache.failed)


def _item(row: StoredModel) -> StoredItem:
    files = [StoredFile(name=each["name"], size=each["size"], sha256=each["sha256"]) for each in row.files]
    return StoredItem(type=row.type, name=row.name, sha256=row.sha256, base=row.base, files=files)

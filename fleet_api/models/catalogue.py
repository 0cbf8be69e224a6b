"""What agents have, and the model store has for them: models, LoRAs, samplers. A name that is not there is refused with what is."""

from __future__ import annotations

from typing import Any

from fleet_api.errors import Conflict, InvalidValue, NotFound, Unavailable
from fleet_api.models.kinds import CHECKPOINT, LORA
from fleet_api.models.models import StoredModel
from fleet_api.models.schemas import LoraView, ModelView
from fleet_api.models.store import ModelStore
from fleet_api.nodes.service import NodeService
from gpu_inference.protocol import LoraInfo, ModelInfo

DEFAULT_SCHEDULER = "euler"


class Catalogue:
    """Reads the agents' capabilities and the store's index; keeps nothing of its own."""

    def __init__(self, nodes: NodeService, default_model: str, store: ModelStore) -> None:
        self._nodes = nodes
        self._store = store
        self.default_model = default_model

    def known(self) -> dict[str, ModelInfo]:
        """Return every model by name that nodes have or could fetch."""
        stored = {
            row.name: ModelInfo(name=row.name, size_bytes=row.size, native_size=row.native_size)
            for row in self._store.all(CHECKPOINT)
            if not row.note
        }
        return stored | {model.name: model for node in self._nodes.all() for model in node.capabilities.models}

    def resolve(self, name: str | None) -> str:
        """Return the model to use. Raises NotFound that lists what there is, never gives a substitute."""
        if name is None:
            return self.default_model
        known = self.known()
        if name != self.default_model and name not in known:
            _refuse_unusable("model", self._store.find(CHECKPOINT, name))
            there = ", ".join(sorted(known)) or "none yet, as no agent is enrolled"
            raise NotFound(f"model: there is no model {name!r}; the models are: {there}.")
        return name

    def schedulers(self) -> list[str]:
        """Return the samplers that enrolled agents serve, in the order in which they name them."""
        return list(dict.fromkeys(name for node in self._nodes.all() for name in node.capabilities.samplers))

    def scheduler(self, name: str | None) -> str:
        """Return the sampler to use. Raises InvalidValue that lists what there is."""
        if name is None:
            return DEFAULT_SCHEDULER
        there = self.schedulers()
        if name not in there:
            raise InvalidValue(
                f"scheduler: {name!r} is not allowed; it must be one of {', '.join(there) or 'none, as no agent is enrolled'}."
            )
        return name

    def loras(self) -> dict[str, LoraInfo]:
        """Return every LoRA by name that nodes have or could fetch."""
        stored = {
            row.name: LoraInfo(name=row.name, base_model=row.base, size_bytes=row.size) for row in self._store.all(LORA) if not row.note
        }
        return stored | {lora.name: lora for node in self._nodes.all() for lora in node.capabilities.loras}

    def check_lora(self, name: str | None, model: str) -> None:
        """Raise NotFound for a LoRA that is not there, and InvalidValue for one of another model."""
        if name is None:
            return
        there = self.loras()
        if name not in there:
            _refuse_unusable("lora", self._store.find(LORA, name))
            raise NotFound(f"lora: there is no LoRA {name!r}; the LoRAs are: {', '.join(sorted(there)) or 'none'}.")
        if there[name].base_model != model:
            raise InvalidValue(f"lora: {name!r} is for the model {there[name].base_model!r} and cannot be used with {model!r}.")

    def loaded(self) -> dict[str, list[str]]:
        """Return the ids of online nodes by the model they have loaded."""
        loaded: dict[str, list[str]] = {}
        for node in self._nodes.all():
            if node.online and node.loaded_model:
                loaded.setdefault(node.loaded_model, []).append(node.id)
        return loaded

    def ready(self) -> bool:
        """Return whether a node that has the default model is online."""
        return any(node.online and self.default_model in {m.name for m in node.capabilities.models} for node in self._nodes.all())

    def available(self) -> list[ModelView]:
        """Return every model by name with where it is loaded, and what of it is stored."""
        loaded, known = self.loaded(), self.known()
        stored = {row.name: row for row in self._store.all(CHECKPOINT)}
        views = []
        for name in sorted({*known, *stored}):
            row = stored.get(name)
            info = known.get(name) or ModelInfo(name=name, size_bytes=row.size if row else 0, native_size=0)
            views.append(
                ModelView(
                    name=name, type=info.type, size=readable_size(info.size_bytes), size_bytes=info.size_bytes,
                    native_size=info.native_size, loaded_on=loaded.get(name, []), default=name == self.default_model,
                    base=row.base if row else "", on_nodes=self._having(name, CHECKPOINT), **self._stored(row),
                )
            )  # fmt: skip
        return views

    def available_loras(self) -> list[LoraView]:
        """Return every LoRA by name, and what of it is stored. Agents do not tell yet which they have loaded."""
        known = self.loras()
        stored = {row.name: row for row in self._store.all(LORA)}
        views = []
        for name in sorted({*known, *stored}):
            row = stored.get(name)
            base = known[name].base_model if name in known else row.base if row else ""
            size = known[name].size_bytes if name in known else row.size if row else 0
            views.append(
                LoraView(
                    name=name, size=readable_size(size), size_bytes=size, base=base, loaded_on=[],
                    on_nodes=self._having(name, LORA), **self._stored(row),
                )
            )  # fmt: skip
        return views

    async def delete(self, kind: str, name: str) -> None:
        """Delete from the store. Raises NotFound, Conflict for what came with the agents' own software, and what the store raises."""
        if self._store.find(kind, name) is None and name in (self.known() if kind == CHECKPOINT else self.loras()):
            word = "model" if kind == CHECKPOINT else "LoRA"
            raise Conflict(f"The {word} {name!r} came with the agents' own software and cannot be deleted.")
        await self._store.delete(kind, name)

    def _having(self, name: str, kind: str) -> list[str]:
        """Return the nodes that have it on disk."""
        nodes = ((node.id, node.capabilities.models if kind == CHECKPOINT else node.capabilities.loras) for node in self._nodes.all())
        return [node_id for node_id, here in nodes if any(each.name == name for each in here)]

    def _stored(self, row: StoredModel | None) -> dict[str, Any]:
        """Return what the store says of it, and how far the nodes are."""
        if row is None:
            return {}
        key = row.type, row.name
        coming = [(node.id, each) for node in self._nodes.all() for each in node.cache.fetching if (each.type, each.name) == key]
        failed = {node.id: each.error for node in self._nodes.all() for each in node.cache.failed if (each.type, each.name) == key}
        percent = {node_id: 100 * each.done // max(each.size, 1) for node_id, each in coming}
        return {
            "stored": True, "sha256": row.sha256, "source": row.source, "note": row.note, "fetching_on": percent, "failed_on": failed,
        }  # fmt: skip


def _refuse_unusable(field: str, row: StoredModel | None) -> None:
    """Raise Unavailable for what is stored and can be used by nobody."""
    if row is not None and row.note:
        raise Unavailable(f"{field}: {row.name!r} cannot be used. {row.note}")


def readable_size(size: int) -> str:
    """Return bytes as people write them: ``6.5GB``, ``8.1MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f}{unit}"
    return f"{size}B"

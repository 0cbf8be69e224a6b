"""What the enrolled agents have: models, samplers. A name that is not there is refused with what is."""

from __future__ import annotations

from fleet_api.errors import Conflict, InvalidValue, NotFound
from fleet_api.models.schemas import LoraView, ModelView
from fleet_api.nodes.service import NodeService
from gpu_inference.protocol import LoraInfo, ModelInfo

DEFAULT_SCHEDULER = "euler"


class Catalogue:
    """Reads the agents' capabilities; keeps nothing of its own."""

    def __init__(self, nodes: NodeService, default_model: str) -> None:
        self._nodes = nodes
        self.default_model = default_model

    def known(self) -> dict[str, ModelInfo]:
        """Return every model by name."""
        return {model.name: model for node in self._nodes.all() for model in node.capabilities.models}

    def resolve(self, name: str | None) -> str:
        """Return the model to use. Raises NotFound that lists what there is, never gives a substitute."""
        if name is None:
            return self.default_model
        known = self.known()
        if name != self.default_model and name not in known:
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
        """Return every LoRA by name."""
        return {lora.name: lora for node in self._nodes.all() for lora in node.capabilities.loras}

    def check_lora(self, name: str | None, model: str) -> None:
        """Raise NotFound for a LoRA that is not there, and InvalidValue for one of another model."""
        if name is None:
            return
        there = self.loras()
        if name not in there:
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
        """Return every model by name with where it is loaded."""
        loaded = self.loaded()
        return [
            ModelView(
                name=name, type=info.type, size=readable_size(info.size_bytes), size_bytes=info.size_bytes,
                native_size=info.native_size, loaded_on=loaded.get(name, []), default=name == self.default_model,
            )
            for name, info in sorted(self.known().items())
        ]  # fmt: skip

    def available_loras(self) -> list[LoraView]:
        """Return every LoRA by name. Agents do not tell yet which they have loaded."""
        return [
            LoraView(name=name, size=readable_size(info.size_bytes), size_bytes=info.size_bytes, base=info.base_model, loaded_on=[])
            for name, info in sorted(self.loras().items())
        ]

    def refuse_delete(self, name: str) -> None:
        """Raise: a model that is there came with its agent and stays with it; others do not exist."""
        if name in self.known():
            raise Conflict(f"The model {name!r} came with the agents' own software and cannot be deleted.")
        self.resolve(name)
        raise NotFound(f"There is no model {name!r}.")


def readable_size(size: int) -> str:
    """Return bytes as people write them: ``6.5GB``, ``8.1MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f}{unit}"
    return f"{size}B"

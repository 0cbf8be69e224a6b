"""What the backends have in common: a model in networks, of which each runtime has its own form.

Both guidance branches of all pictures go through the UNet as one batch. What stays the same for them is taken to the device once; a
step takes its latents alone. Encodings of the last prompts are kept, as callers often change nothing but the seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from gpu_inference.engine.backends.base import guide
from gpu_inference.engine.batch import MOST_PICTURES, USUAL_PICTURES
from gpu_inference.engine.conditioning import Conditioning, Ids
from gpu_inference.engine.errors import BackendError, UnfitLora
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart, TextEncoderPart
from gpu_inference.engine.tiles import decode_in_tiles

Array = npt.NDArray[Any]
Encoded = Tuple[Array, Array]
KEPT_PROMPTS = 2 * MOST_PICTURES


def networks_of(applied: Applied) -> List[str]:
    """The networks that a LoRA changes."""
    return sorted({network for network, _, _ in applied.lora.parts})


class NetworkBackend(ABC):
    """A :class:`gpu_inference.engine.backends.base.Backend`; a runtime's own fills in the abstract methods."""

    name = ""
    device = ""
    most_pictures = MOST_PICTURES
    parks = False

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._manifest = folder.manifest
        parts = (*self._manifest.text_encoders, self._manifest.unet, self._manifest.vae_decoder)
        self._parts: Dict[str, NetworkPart] = {part.network: part for part in parts}
        self._applied: Optional[Tuple[Applied, ...]] = ()
        self._touched: Tuple[Applied, ...] = ()
        """The LoRAs of which there may be something in the weights: those that are applied, and those of a change that failed."""
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._prepared = False
        self._held: Dict[str, Array] = {}
        self.seen: Optional[Callable[[Dict[str, Array]], object]] = None
        """Called with all inputs of the UNet at each step, where somebody wants to see them."""

        self._pictures, self._branches = 1, 1
        self._guidance = (np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32))

    @abstractmethod
    def _weigh(self, part: NetworkPart, applied: Sequence[Applied]) -> Any:
        """What LoRAs make of a network, not yet in use; none of them is its own weights. Raises a LoraError."""

    @abstractmethod
    def _use(self, part: NetworkPart, weighed: Any) -> None:
        """Puts what :meth:`_weigh` gave into use."""

    @abstractmethod
    def _run_encoder(self, part: TextEncoderPart, ids: Array) -> List[Array]:
        """The hidden states of int64 ids ``[1, length]``, and the pooled text where the part has one."""

    @abstractmethod
    def _hold(self, inputs: Mapping[str, Array]) -> None:
        """Takes the UNet's inputs that stay the same to the device."""

    @abstractmethod
    def _predict(self, sample: Array, timestep: float) -> Array:
        """The UNet's prediction, float32, for a float32 sample of all branches."""

    @abstractmethod
    def _run_decoder(self, latents: Array) -> Array:
        """A picture from float32 latents ``[1, channels, h, w]``, as :meth:`decode`."""

    @property
    def usual_pictures(self) -> int:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        return 1 if self.device == "cpu" else min(USUAL_PICTURES, self.most_pictures)

    def relieve(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._prepared = False
        self._kept.clear()

    def park(self) -> bool:
        """See :class:`gpu_inference.engine.backends.base.Backend`. Not every runtime can."""
        return False

    def wake(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        raise BackendError(f"The backend {self.name} has nothing parked.")

    def _decode_side(self) -> int:
        """The longest side of latents that the decoder takes whole, in latent pixels; larger ones are decoded in tiles."""
        return 2048

    def adapt(self, loras: Sequence[Applied]) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`. Only the networks that change are touched."""
        wanted = tuple(each for each in loras if each.strength != 0.0)
        if wanted == self._applied:
            return
        after = {network for each in wanted for network in networks_of(each)}
        strangers = after - set(self._parts)
        if strangers:
            raise UnfitLora(f"The LoRA '{wanted[0].lora.name}' changes a {min(strangers)}, which the model '{self._folder.name}' has not.")
        before = {network for each in self._touched for network in networks_of(each)}
        weighed = {
            network: self._weigh(self._parts[network], [each for each in wanted if network in networks_of(each)])
            for network in sorted(before | after)
        }
        self._applied, self._prepared, self._touched = None, False, (*self._touched, *wanted)
        self._kept.clear()
        for network, change in weighed.items():
            self._use(self._parts[network], change)
        self._applied = self._touched = wanted

    def _applied_to(self, part: NetworkPart) -> List[Applied]:
        """The LoRAs that change a network now."""
        return [each for each in self._applied or () if part.network in networks_of(each)]

    def _touching(self, part: NetworkPart) -> List[Applied]:
        """The LoRAs of which there may be something in a network's weights."""
        return [each for each in self._touched if part.network in networks_of(each)]

    def prepare(self, conditionings: Sequence[Conditioning]) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if self._applied is None:
            raise BackendError("A network is not loaded, as changing its weights failed.")
        branches: List[Tuple[Ids, Array]] = []
        if conditionings[0].negative is not None:
            branches += [(each.negative or (), each.negative_time_ids) for each in conditionings]
        branches += [(each.prompt, each.time_ids) for each in conditionings]
        self._pictures, self._branches = len(conditionings), len(branches) // len(conditionings)
        scales, rescales = zip(*((each.guidance_scale, each.guidance_rescale) for each in conditionings))
        self._guidance = (np.array(scales, dtype=np.float32), np.array(rescales, dtype=np.float32))
        encoded = [self._encode(ids) for ids, _ in branches]
        self._held = {
            "encoder_hidden_states": np.concatenate([hidden for hidden, _ in encoded]),
            "text_embeds": np.concatenate([pooled for _, pooled in encoded]),
            "time_ids": np.concatenate([ids for _, ids in branches]),
        }
        self._hold(self._held)
        self._prepared = True

    def denoise(self, latents: Array, timestep: float) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if not self._prepared:
            raise BackendError("A step was asked for before anything was prepared.")
        sample = np.concatenate([latents] * self._branches).astype(np.float32)
        if self.seen is not None:
            self.seen({**self._held, "sample": sample, "timestep": np.array([timestep], dtype=np.float32)})
        prediction = self._predict(sample, timestep)
        if self._branches == 1:
            return prediction
        return guide(prediction[: self._pictures], prediction[self._pictures :], *self._guidance)

    def decode(self, latents: Array) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`. One by one: a decoder takes the most memory of all."""
        scaled = (latents / self._manifest.vae_scaling_factor + self._manifest.vae_shift).astype(np.float32)
        side, factor = self._decode_side(), self._manifest.vae_scale_factor
        return np.concatenate([decode_in_tiles(self._run_decoder, each[None], side, factor) for each in scaled])

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self.relieve()

    def _encode(self, ids: Ids) -> Encoded:
        """Hidden states ``[1, length, widths]`` and the pooled text ``[1, width]`` of one prompt."""
        key = b"".join(row.tobytes() for row in ids)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        hidden: List[Array] = []
        pooled: Optional[Array] = None
        for part, row in zip(self._manifest.text_encoders, ids):
            outputs = self._run_encoder(part, row)
            hidden.append(outputs[0])
            pooled = outputs[1] if part.pooled_output else pooled
        if pooled is None:
            raise BackendError("No text encoder gave a pooled output.")
        self._kept[key] = (np.concatenate(hidden, axis=-1), pooled)
        if len(self._kept) > KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return self._kept[key]

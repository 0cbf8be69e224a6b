"""ONNX Runtime, on a GPU where it has CUDA and the machine has one, else on the CPU.

Both guidance branches of all pictures go through the UNet as one batch. What stays the same for them is bound once; a step binds
only its latents. Encodings of the last prompts are kept, as callers often change nothing but the seed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from gpu_inference.engine.backends.base import guide
from gpu_inference.engine.backends.onnx_sessions import CPU, cores, open_session, own_errors, provider
from gpu_inference.engine.conditioning import Conditioning, Ids
from gpu_inference.engine.errors import BackendError, LoraError
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.engine.weights import changed_graph, changed_weights, load_weight_map

Array = npt.NDArray[Any]
Encoded = Tuple[Array, Array]
Changed = Tuple[Optional[bytes], Optional[Dict[str, Array]]]
KEPT_PROMPTS = 16


class OnnxBackend:
    """A model in a session for each of its networks."""

    name = "onnx"

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        """Raises :class:`BackendError` where a graph does not load."""
        self._folder = folder
        self._manifest = folder.manifest
        self._threads = threads or cores()
        self._provider = provider()
        self.device = "cpu" if self._provider == CPU else "cuda"
        self._applied: Optional[Tuple[Applied, ...]] = ()
        parts = {part.network: part for part in (*self._manifest.text_encoders, self._manifest.unet, self._manifest.vae_decoder)}
        self._parts: Dict[str, NetworkPart] = parts
        self._sessions: Dict[str, Any] = {network: self._session(part) for network, part in parts.items()}
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._batch, self._pictures = 1, 1
        self._guidance = (np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32))
        self._binding: Optional[Any] = None

    def _session(self, part: NetworkPart, changed: Changed = (None, None)) -> Any:
        return open_session(self._folder.path, part, self._provider, self._threads, *changed)

    def _changed(self, part: NetworkPart, applied: Sequence[Applied]) -> Changed:
        """What LoRAs make of a network: another graph, or other weights by initialiser."""
        if not applied:
            return None, None
        if part.weights is None:
            raise LoraError(f"The model '{self._folder.name}' takes no LoRA: it has no map of its weights.")
        known = load_weight_map(self._folder.file(part.weights))
        if known.data is None:
            return changed_graph(self._folder.file(part.file), known, part.network, applied), None
        changed = changed_weights(self._folder.file(known.data), known, part.network, applied)
        return None, {known.weights[module].initializer: value for module, value in changed.items()}

    def adapt(self, loras: Sequence[Applied]) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`. The networks that change are loaded anew."""
        wanted = tuple(each for each in loras if each.strength != 0.0)
        if wanted == self._applied:
            return
        before = set(self._parts) if self._applied is None else {network for each in self._applied for network in _networks(each)}
        after = {network for each in wanted for network in _networks(each)}
        strangers = after - set(self._parts)
        if strangers:
            raise LoraError(f"The LoRA '{wanted[0].lora.name}' changes a {min(strangers)}, which the model '{self._folder.name}' has not.")
        changed = {
            network: self._changed(self._parts[network], [each for each in wanted if network in _networks(each)])
            for network in sorted(before | after)
        }
        self._binding = None
        self._kept.clear()
        try:
            for network, change in changed.items():
                # The session before it is freed first: two UNets at once may not fit.
                self._sessions.pop(network, None)
                self._sessions[network] = self._session(self._parts[network], change)
        except Exception:
            self._applied = None  # nobody knows what is loaded
            raise
        self._applied = wanted

    def prepare(self, conditionings: Sequence[Conditioning]) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if len(self._sessions) < len(self._parts):
            raise BackendError("A network is not loaded, as changing its weights failed.")
        guided = conditionings[0].negative is not None
        branches: List[Tuple[Ids, Array]] = []
        if guided:
            branches += [(each.negative or (), each.negative_time_ids) for each in conditionings]
        branches += [(each.prompt, each.time_ids) for each in conditionings]
        self._pictures, self._batch = len(conditionings), len(branches)
        scales, rescales = zip(*((each.guidance_scale, each.guidance_rescale) for each in conditionings))
        self._guidance = (np.array(scales, dtype=np.float32), np.array(rescales, dtype=np.float32))
        with own_errors():
            encoded = [self._encode(ids) for ids, _ in branches]
            self._binding = self._sessions[self._manifest.unet.network].io_binding()
            self._bind("encoder_hidden_states", np.concatenate([hidden for hidden, _ in encoded]))
            self._bind("text_embeds", np.concatenate([pooled for _, pooled in encoded]))
            self._bind("time_ids", np.concatenate([ids for _, ids in branches]))

    def _bind(self, name: str, value: Array) -> None:
        """Binds an input by a copy on the device."""
        place = ("cpu", 0) if self._provider == CPU else ("cuda", 0)
        if self._binding is not None:
            self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), *place))

    def denoise(self, latents: Array, timestep: float) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        if self._binding is None:
            raise BackendError("A step was asked for before anything was prepared.")
        sample = np.concatenate([latents] * (self._batch // self._pictures)).astype(np.float32)
        with own_errors():
            self._bind("sample", sample)
            self._bind("timestep", np.array([timestep], dtype=np.float32))
            self._binding.bind_output("out_sample")
            self._sessions[self._manifest.unet.network].run_with_iobinding(self._binding)
            prediction = self._binding.copy_outputs_to_cpu()[0]
        if self._batch == self._pictures:
            return np.asarray(prediction)
        return guide(prediction[: self._pictures], prediction[self._pictures :], *self._guidance)

    def decode(self, latents: Array) -> Array:
        """See :class:`gpu_inference.engine.backends.base.Backend`. One by one: a decoder takes the most memory of all."""
        scaled = (latents / self._manifest.vae_scaling_factor + self._manifest.vae_shift).astype(np.float32)
        with own_errors():
            pictures = [self._sessions[self._manifest.vae_decoder.network].run(["sample"], {"latent_sample": each[None]})[0] for each in scaled]
        return np.concatenate(pictures)

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._binding = None
        self._sessions.clear()
        self._kept.clear()

    def _encode(self, ids: Ids) -> Encoded:
        """Hidden states ``[1, length, widths]`` and the pooled text ``[1, width]`` of one prompt."""
        key = b"".join(row.tobytes() for row in ids)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        hidden: List[Array] = []
        pooled: Optional[Array] = None
        for part, row in zip(self._manifest.text_encoders, ids):
            names = [part.hidden_output] + ([part.pooled_output] if part.pooled_output else [])
            outputs = self._sessions[part.network].run(names, {"input_ids": row})
            hidden.append(outputs[0])
            pooled = outputs[1] if part.pooled_output else pooled
        if pooled is None:
            raise BackendError("No text encoder gave a pooled output.")
        self._kept[key] = (np.concatenate(hidden, axis=-1), pooled)
        if len(self._kept) > KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return self._kept[key]


def _networks(applied: Applied) -> List[str]:
    return sorted({network for network, _, _ in applied.lora.parts})

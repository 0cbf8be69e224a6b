"""ONNX Runtime, on a GPU where it has CUDA and the machine has one, else on the CPU."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import onnxruntime

from gpu_inference.engine.backends.networks import NetworkBackend
from gpu_inference.engine.backends.onnx_sessions import CPU, cores, open_session, own_errors, provider
from gpu_inference.engine.errors import LoraError
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart, TextEncoderPart
from gpu_inference.engine.weights import changed_graph, changed_weights, load_weight_map

Array = npt.NDArray[Any]
Weighed = Tuple[Optional[bytes], Optional[Dict[str, Array]]]
"""What LoRAs make of a network: another graph, or other weights by initialiser."""


class OnnxBackend(NetworkBackend):
    """A model in a session for each of its networks."""

    name = "onnx"

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        """Raises :class:`BackendError` where a graph does not load."""
        super().__init__(folder)
        self._threads = threads or cores()
        self._provider = provider()
        self.device = "cpu" if self._provider == CPU else "cuda"
        self._sessions: Dict[str, Any] = {network: self._session(part) for network, part in self._parts.items()}
        self._binding: Any = None

    def _session(self, part: NetworkPart, weighed: Weighed = (None, None)) -> Any:
        return open_session(self._folder.path, part, self._provider, self._threads, *weighed)

    def _weigh(self, part: NetworkPart, applied: Sequence[Applied]) -> Weighed:
        if not applied:
            return None, None
        if part.weights is None:
            raise LoraError(f"The model '{self._folder.name}' takes no LoRA: it has no map of its weights.")
        known = load_weight_map(self._folder.file(part.weights))
        if known.data is None:
            return changed_graph(self._folder.file(part.file), known, part.network, applied), None
        changed = changed_weights(self._folder.file(known.data), known, part.network, applied)
        return None, {known.weights[module].initializer: value for module, value in changed.items()}

    def _use(self, part: NetworkPart, weighed: Weighed) -> None:
        # The session before it is freed first: two UNets at once may not fit.
        self._binding = None
        self._sessions.pop(part.network, None)
        self._sessions[part.network] = self._session(part, weighed)

    def _run_encoder(self, part: TextEncoderPart, ids: Array) -> List[Array]:
        names = [name for name in (part.hidden_output, part.pooled_output) if name]
        with own_errors():
            return list(self._sessions[part.network].run(names, {"input_ids": ids}))

    def _hold(self, inputs: Mapping[str, Array]) -> None:
        with own_errors():
            self._binding = self._sessions[self._manifest.unet.network].io_binding()
            for name, value in inputs.items():
                self._bind(name, value)

    def _bind(self, name: str, value: Array) -> None:
        """Binds an input by a copy on the device."""
        self._binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), self.device, 0))

    def _predict(self, sample: Array, timestep: float) -> Array:
        with own_errors():
            self._bind("sample", sample)
            self._bind("timestep", np.array([timestep], dtype=np.float32))
            self._binding.bind_output("out_sample")
            self._sessions[self._manifest.unet.network].run_with_iobinding(self._binding)
            return np.asarray(self._binding.copy_outputs_to_cpu()[0])

    def _run_decoder(self, latents: Array) -> Array:
        with own_errors():
            return np.asarray(self._sessions[self._manifest.vae_decoder.network].run(["sample"], {"latent_sample": latents})[0])

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        super().close()
        self._binding = None
        self._sessions.clear()

"""torch: half precision and CUDA graphs on a GPU, single precision on a CPU. For imported models, whose manifests tell their networks.

The UNet's work is recorded at its first call for a size and replayed at every later one, which takes the launch of some thousand
kernels off the host (CUDA graphs). The decoder computes in bf16 or fp32 unless the model marks it as safe in fp16.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from gpu_inference.engine.backends.cuda_graphs import Recorded
from gpu_inference.engine.backends.networks import NetworkBackend
from gpu_inference.engine.backends.onnx_sessions import cores
from gpu_inference.engine.backends.torch_ops import TorchOps, load_tensors, to_device
from gpu_inference.engine.backends.torch_parked import Parked
from gpu_inference.engine.conditioning import Conditioning
from gpu_inference.engine.errors import BackendError, EngineError, ModelError, OutOfMemory
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart, TextEncoderPart
from gpu_inference.engine.network.clip import text_encoder
from gpu_inference.engine.network.unet import unet
from gpu_inference.engine.network.vae import decoder
from gpu_inference.engine.weights import changed_weights, load_weight_map, places_of, stored_weights

Array = npt.NDArray[Any]
_TORCH_OUT_OF_MEMORY: Any = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
"""Its name before torch 2.5."""

_PEAK_TENSORS = 3
"""So many tensors of the second finest width are there at once, at the picture's full size, where the decoder takes the most memory."""

_SMALLEST_TILE = 32
"""Of latents, a side."""

_MEMORY_PART = 0.5
"""The part of the free memory that decoding may take."""


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (_TORCH_OUT_OF_MEMORY, MemoryError) as error:
        raise OutOfMemory("The device ran out of memory.") from error
    except Exception as error:
        raise BackendError("torch failed: {}".format(" ".join(str(error).split())[:300])) from error


class TorchBackend(NetworkBackend):
    """A model's tensors on one device."""

    name = "torch"
    parks = True

    def __init__(self, folder: ModelFolder, threads: int = 0) -> None:
        """Raises :class:`ModelError` for a model that does not tell its networks, and :class:`EngineError`'s other kinds."""
        super().__init__(folder)
        networks = folder.manifest.networks
        if networks is None:
            raise ModelError(f"The model '{folder.name}' does not tell its networks' sizes; the backend torch takes imported models.")
        self._networks = networks
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.set_num_threads(threads or cores())
        self._half = torch.float16 if self.device == "cuda" else torch.float32
        with _own_errors():
            self._ops = {network: self._load(part) for network, part in self._parts.items()}
        self._parked: Dict[str, Parked] = {}
        self._static: Dict[str, Any] = {}
        self._recorded = Recorded(self._unet)
        if self.device == "cuda":
            self._warm_up()

    def _load(self, part: NetworkPart) -> TorchOps:
        if part.weights is None:
            raise ModelError(f"The model '{self._folder.name}' has no map of the weights of its {part.network}.")
        return TorchOps(load_tensors(self._folder, part, self.device, self._precision(part)))

    def _precision(self, part: NetworkPart) -> Any:
        if self.device == "cpu" or part is not self._manifest.vae_decoder or part.half:
            return self._half
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32

    def _warm_up(self) -> None:
        """One step and one decoding of the native size: what is compiled or tuned at the first call is not the first job's to wait for."""
        size = self._manifest.native_size // self._manifest.vae_scale_factor
        ids = np.zeros((1, self._manifest.tokenizer.max_length), dtype=np.int64)
        row = tuple(ids for _ in self._manifest.text_encoders)
        numbers = np.zeros((1, len(self._manifest.time_ids)), dtype=np.float32)
        self.prepare([Conditioning(row, row, numbers, numbers, 2.0, 0.0)])
        latents = np.zeros((1, self._manifest.latent_channels, size, size), dtype=np.float32)
        self.denoise(latents, 500.0)
        self.decode(latents)
        self._kept.clear()

    def _weigh(self, part: NetworkPart, applied: Sequence[Applied]) -> Dict[str, Array]:
        """The weights to put in, as they are stored: those that LoRAs change, and as they were those that the ones before changed."""
        known = load_weight_map(self._folder.file(part.weights or ""))
        file = self._folder.file(known.data or part.file)
        before = self._touching(part)
        return {
            **stored_weights(file, known, places_of(before, part.network, known)),
            **changed_weights(file, known, part.network, applied),
        }

    def _use(self, part: NetworkPart, weighed: Dict[str, Array]) -> None:
        known = load_weight_map(self._folder.file(part.weights or ""))
        tensors = self._ops[part.network].tensors
        with _own_errors(), torch.inference_mode():
            for module, value in weighed.items():
                tensor = tensors[module + ".weight"]
                tensor.copy_(to_device(value, known.weights[module], self.device, tensor.dtype))

    def _run_encoder(self, part: TextEncoderPart, ids: Array) -> List[Array]:
        config = self._networks.text_encoders[self._manifest.text_encoders.index(part)]
        with _own_errors(), torch.inference_mode():
            hidden, pooled = text_encoder(self._ops[part.network], config, torch.from_numpy(ids).to(self.device))
            return [value.cpu().numpy() for value in (hidden, pooled) if value is not None]

    def _hold(self, inputs: Mapping[str, Array]) -> None:
        with _own_errors():
            for name, value in inputs.items():
                # The moment and the picture's sizes are large numbers: they go through the waves before they are halved.
                dtype = torch.float32 if name == "time_ids" else self._half
                self._static[name] = torch.from_numpy(value).to(self.device, dtype)

    def _unet(self, sample: Any, timestep: Any, hidden: Any, pooled: Any, time_ids: Any) -> Any:
        ops = self._ops[self._manifest.unet.network]
        if self.device == "cuda":
            sample = sample.contiguous(memory_format=torch.channels_last)
        return unet(ops, self._networks.unet, sample, timestep, hidden, pooled, time_ids)

    def _predict(self, sample: Array, timestep: float) -> Array:
        with _own_errors(), torch.inference_mode():
            moment = torch.tensor([timestep], dtype=torch.float32, device=self.device)
            inputs = [torch.from_numpy(sample).to(self.device, self._half), moment]
            inputs += [self._static[name] for name in ("encoder_hidden_states", "text_embeds", "time_ids")]
            run = self._recorded if self.device == "cuda" else self._unet
            return np.asarray(run(*inputs).cpu().numpy())

    def _run_decoder(self, latents: Array) -> Array:
        ops = self._ops[self._manifest.vae_decoder.network]
        with _own_errors(), torch.inference_mode():
            taken = torch.from_numpy(latents).to(self.device, ops.dtype)
            return np.asarray(decoder(ops, self._networks.vae_decoder, taken).cpu().numpy())

    def _decode_side(self) -> int:
        if self.device == "cpu":
            return super()._decode_side()
        free, _ = torch.cuda.mem_get_info()
        widths, size = self._networks.vae_decoder.widths, self._ops[self._manifest.vae_decoder.network].dtype.itemsize
        pixels = free * _MEMORY_PART / (_PEAK_TENSORS * widths[min(1, len(widths) - 1)] * size)
        return max(_SMALLEST_TILE, int(math.sqrt(pixels)) // self._manifest.vae_scale_factor)

    def relieve(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        super().relieve()
        self._recorded.clear()
        self._static.clear()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def park(self) -> bool:
        """See :class:`gpu_inference.engine.backends.base.Backend`. The weights are taken as they are, with LoRAs that are in them."""
        try:
            with _own_errors():
                for network, ops in self._ops.items():
                    self._parked[network] = Parked(ops.tensors)
        except EngineError:
            self._forget_parked()
            return False
        for ops in self._ops.values():
            ops.tensors = {}
        self.relieve()
        return True

    def wake(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        with _own_errors():
            for network, ops in self._ops.items():
                ops.tensors = self._parked[network].on(self.device)
        self._forget_parked()

    def _forget_parked(self) -> None:
        for parked in self._parked.values():
            parked.close()
        self._parked.clear()

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._forget_parked()
        self._ops.clear()
        super().close()

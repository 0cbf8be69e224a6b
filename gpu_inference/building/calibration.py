"""int8 for the UNet, where it was calibrated: TensorRT looks at what the network is given in real pictures, and keeps a table of ranges.

Releases before 11 have calibrators of their own; 11 has none, and its engines stay in half precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import numpy.typing as npt

from gpu_inference.engine import conditioning, noise
from gpu_inference.engine.backends import open_backend, usual_backend
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.networks import NetworkBackend
from gpu_inference.engine.errors import BackendError, Cancelled
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.samplers import create_sampler
from gpu_inference.engine.schedule import NoiseSchedule
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer

Array = npt.NDArray[Any]
Sample = Dict[str, Array]
"""The UNet's inputs at one step, by their names."""

PROMPTS = (
    "a portrait of an old fisherman, natural light", "a red fox in deep snow", "a city street at night, rain, reflections",
    "a bowl of fruit, oil painting", "a castle on a hill, pencil drawing", "an astronaut on the moon, wide angle",
    "a field of sunflowers under a blue sky", "abstract shapes in green and violet",
)  # fmt: skip
"""Where none are given. What a model is used for is better calibrated with prompts of its own."""

NEGATIVE = "blurry"
STEPS = 20
GUIDED = 2.0
"""At least so much guidance: what TensorRT calibrates with has both branches, as the profile's usual shape has."""

EVERY = 4
"""So many steps apart the samples of a picture lie: neighbours tell the same."""


def can_calibrate(trt: Any) -> bool:
    """Whether this release has calibrators."""
    return hasattr(trt, "IInt8EntropyCalibrator2")


def collect(folder: ModelFolder, prompts: Sequence[str], told: Callable[[int, int], None], cancelled: Callable[[], bool]) -> List[Sample]:
    """What the UNet is given while pictures of these prompts are made, by the runtime that this machine has beside TensorRT.

    ``told`` hears the pictures done and in all. Raises :class:`gpu_inference.engine.errors.EngineError`'s kinds.
    """
    manifest = folder.manifest
    samples: List[Sample] = []
    backend = open_backend(usual_backend(), folder, 0)
    if not isinstance(backend, NetworkBackend):
        raise BackendError(f"The model '{folder.name}' cannot be calibrated; import it again.")
    words = manifest.tokenizer
    tokenizer = Tokenizer(folder.file(words.file), words.max_length, words.unknown_words == "drop")
    guidance = max(manifest.default_guidance, GUIDED)
    schedule, side = NoiseSchedule(manifest), manifest.native_size
    try:
        for number, prompt in enumerate(prompts):
            told(number, len(prompts))
            inputs = conditioning.build(manifest, tokenizer, prompt, NEGATIVE, guidance, plan_size(side, side, manifest.size_buckets))[0]
            backend.prepare([inputs])
            sampler, factor = create_sampler("euler", schedule, STEPS), manifest.vae_scale_factor
            latents = sampler.start(noise.normal(number, 0, (1, manifest.latent_channels, side // factor, side // factor)))
            for index, moment in enumerate(sampler.timesteps):
                if cancelled():
                    raise Cancelled("The building of engines was cancelled.")
                backend.seen = samples.append if index % EVERY == 0 else None
                latents = sampler.step(latents, backend.denoise(sampler.model_input(latents, index), float(moment)), index, None)
    finally:
        backend.close()
    return samples


def calibrator(trt: Any, cuda: Cuda, cache: Path, samples: Optional[Sequence[Sample]] = None) -> Any:
    """What the builder asks for samples, or for the table that an earlier calibration left in ``cache``."""

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._left = list(samples or ())
            self._places: Dict[str, int] = {}

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Sequence[str]) -> Optional[List[int]]:
            self.free()
            if not self._left:
                return None
            sample = self._left.pop(0)
            for name in names:
                value = np.ascontiguousarray(sample[name], dtype=np.float32)
                self._places[name] = cuda.allocate(value.nbytes)
                cuda.copy_in(self._places[name], value)
            return [self._places[name] for name in names]

        def read_calibration_cache(self) -> Optional[bytes]:
            return cache.read_bytes() if cache.is_file() else None

        def write_calibration_cache(self, table: Any) -> None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            part = cache.with_suffix(".part")
            part.write_bytes(bytes(table))
            part.replace(cache)

        def free(self) -> None:
            for pointer in self._places.values():
                cuda.free(pointer)
            self._places.clear()

    return Calibrator()

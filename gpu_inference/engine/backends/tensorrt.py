"""TensorRT: a plan for each network, built on this node (:mod:`gpu_inference.building`), all in one arena of the device's memory.

Never run on hardware; docs/hardware.md tells what it was tested with.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from gpu_inference.building.plans import PlanStore, default_store
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.mapped import map_file, read_in
from gpu_inference.engine.backends.networks import NetworkBackend
from gpu_inference.engine.backends.tensorrt_plan import Plan, bindings
from gpu_inference.engine.errors import BackendError, LoraError, NoRoom
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart, TextEncoderPart
from gpu_inference.engine.weights import changed_weights, load_weight_map, places_of, stored_weights

Array = npt.NDArray[Any]
_RESERVE = 256 * 2**20
"""Bytes of the device that stay free beside plans and arena: what CUDA itself and the buffers of inputs and outputs take."""


class TensorRTBackend(NetworkBackend):
    """A model in engines of TensorRT."""

    name = "tensorrt"
    parks = True
    device = "cuda"

    def __init__(self, folder: ModelFolder, threads: int = 0, store: Optional[PlanStore] = None, cuda: Optional[Cuda] = None) -> None:
        """Raises :class:`gpu_inference.engine.errors.BackendError` where an engine was not built yet, and :class:`NoRoom`."""
        super().__init__(folder)
        self._trt = bindings()
        self._cuda = cuda or Cuda()
        self._store = store or default_store()
        self.most_pictures = self._store.pictures
        self._plans: Dict[str, Plan] = {}
        self._parked: Dict[str, mmap.mmap] = {}
        self._paths = {network: self._find(part) for network, part in self._parts.items()}
        self._check_memory([path.stat().st_size for path in self._paths.values()])
        self._arena, self._room = 0, 0
        self._open()

    def _open(self) -> None:
        """Reads the plans, those that are parked from where they are; frees all where one cannot be read."""
        try:
            for network, path in self._paths.items():
                self._plans[network] = Plan(self._trt, self._cuda, path, self._parked.pop(network, None))
            self._share_arena()
        except Exception:
            self.close()
            raise

    def _find(self, part: NetworkPart, loras: Sequence[Applied] = ()) -> Path:
        return self._store.find(self._folder, part, self._cuda.architecture(), self._trt.__version__, loras)

    def _share_arena(self) -> None:
        """Has all plans compute in the one arena, which is as large as the one that needs the most."""
        size = max(plan.memory_needed() for plan in self._plans.values())
        if size > self._room:
            if self._arena:
                self._cuda.free(self._arena)
            self._arena, self._room = 0, 0
            self._arena, self._room = self._cuda.allocate(size), size
        for plan in self._plans.values():
            plan.use_memory(self._arena, self._room)

    def _check_memory(self, plans: Sequence[int]) -> None:
        free, _ = self._cuda.memory()
        read = max(plans) if self._cuda.shares_memory() else 0  # the file that is read, beside what is made of it
        need = sum(plans) + read + _RESERVE
        if need > free:
            needed, there = ((value + 2**20 - 1) // 2**20 for value in (need, free))
            raise NoRoom(f"The model '{self._folder.name}' needs {needed} MiB of the device's memory, of which {there} MiB are free.")

    def _weigh(self, part: NetworkPart, applied: Sequence[Applied]) -> Union[Dict[str, Array], Path]:
        """Weights by their initialisers; or, of an engine that cannot be refitted, the one that has the LoRAs in its weights."""
        plan = self._plans.get(part.network)
        if plan is None or not plan.refittable:
            if applied and not self._store.calibration(self._folder, part, self._trt.__version__).is_file():
                raise LoraError("The engine was built without refitting, so that no LoRA can be applied to it.")
            try:
                return self._find(part, applied)
            except BackendError as error:
                raise LoraError(f"The engine takes no LoRA by refitting. {error}") from error
        if part.weights is None:
            raise LoraError(f"The model '{self._folder.name}' takes no LoRA: it has no map of its weights.")
        known = load_weight_map(self._folder.file(part.weights))
        file = self._folder.file(known.data or part.file)
        before = self._touching(part)
        weights = {
            **stored_weights(file, known, places_of(before, part.network, known)),
            **changed_weights(file, known, part.network, applied),
        }
        named = {known.weights[module].initializer: value for module, value in weights.items()}
        plan.check_refit(named)
        return named

    def _use(self, part: NetworkPart, weighed: Union[Dict[str, Array], Path]) -> None:
        if isinstance(weighed, Path):
            self._switch(part.network, weighed)
        elif weighed:
            self._plans[part.network].refit(weighed)

    def _switch(self, network: str, path: Path) -> None:
        """Another engine for a network; the one before it goes first, as there may be no room for both."""
        if network in self._plans and path == self._paths.get(network):
            return
        before = self._plans.pop(network, None)
        if before is not None:
            before.close()
        self._paths.pop(network, None)  # until the new one can compute, the network is one that is lacking
        self._plans[network] = Plan(self._trt, self._cuda, path)
        try:
            self._share_arena()
        except Exception:
            self._plans.pop(network).close()
            raise
        self._paths[network] = path

    def _run_encoder(self, part: TextEncoderPart, ids: Array) -> List[Array]:
        outputs = self._plans[part.network].run({"input_ids": ids})
        return [outputs[name] for name in (part.hidden_output, part.pooled_output) if name]

    def _hold(self, inputs: Mapping[str, Array]) -> None:
        for name, value in inputs.items():
            self._plans[self._manifest.unet.network].hold(name, value)

    def _predict(self, sample: Array, timestep: float) -> Array:
        moment = np.array([timestep], dtype=np.float32)
        return self._plans[self._manifest.unet.network].run({"sample": sample, "timestep": moment})["out_sample"]

    def _run_decoder(self, latents: Array) -> Array:
        return self._plans[self._manifest.vae_decoder.network].run({"latent_sample": latents})["sample"]

    def park(self) -> bool:
        """See :class:`gpu_inference.engine.backends.base.Backend`. The plans' files stay mapped, and what was put in by refitting is lost.

        The kernel may take their pages back where memory is short, which only makes waking slower.
        """
        try:
            files = {network: map_file(path) for network, path in self._paths.items()}
        except OSError:
            return False
        parked = {network: file for network, file in files.items() if file is not None}
        for file in parked.values():
            read_in(file)
        fused = any(not plan.refittable and self._touching(self._parts[network]) for network, plan in self._plans.items())
        whole = len(self._plans) == len(self._parts)
        self._free()
        self._parked = parked
        # Where all plans will be as they were built, no LoRA is applied; else the next change has to look at each of them.
        self._applied, self._touched = ((), ()) if whole and not fused else (None, self._touched)
        return True

    def wake(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._check_memory([len(file) for file in self._parked.values()])
        self._open()

    def _free(self) -> None:
        """Frees what is on the device."""
        super().close()
        for plan in self._plans.values():
            plan.close()
        self._plans.clear()
        if self._arena:
            self._cuda.free(self._arena)
            self._arena, self._room = 0, 0

    def close(self) -> None:
        """See :class:`gpu_inference.engine.backends.base.Backend`."""
        self._free()
        for file in self._parked.values():
            file.close()
        self._parked.clear()

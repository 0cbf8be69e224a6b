"""Builds the engines of a model with TensorRT's own builder, network by network.

Releases before 10 choose layers' precisions themselves, where they are told that fp16 may be used; from 10 on the graph's types
are kept (strongly typed), as from 11 on there is nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpu_inference.building.plans import PlanStore, identity
from gpu_inference.building.profiles import Profile, profiles
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.tensorrt_plan import bindings
from gpu_inference.engine.errors import BackendError, Cancelled
from gpu_inference.engine.manifest import ModelFolder, NetworkPart

Progress = Callable[[int, int, str], None]
"""Called with networks done, networks in all, and what is built now."""

WORKSPACE_PART = 0.5
"""The part of the device's free memory that the builder may try layers in."""


class _Teller:
    """What TensorRT 10's builder tells of its progress; it asks at each step whether to go on."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self.cancelled = cancelled

    def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
        """Nothing to do."""

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Whether to go on."""
        return not self.cancelled()

    def phase_finish(self, phase_name: str) -> None:
        """Nothing to do."""


def _monitor(trt: Any, cancelled: Callable[[], bool]) -> Optional[Any]:
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(_Teller, trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            _Teller.__init__(self, cancelled)

    return Monitor()


def _network(trt: Any, builder: Any, graph: Path, logger: Any) -> Any:
    flags = trt.NetworkDefinitionCreationFlag
    wanted = 0
    if hasattr(flags, "STRONGLY_TYPED"):
        wanted |= 1 << int(flags.STRONGLY_TYPED)
    elif hasattr(flags, "EXPLICIT_BATCH"):
        wanted |= 1 << int(flags.EXPLICIT_BATCH)
    network = builder.create_network(wanted)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        said = parser.get_error(0).desc() if parser.num_errors else "no reason was given"
        raise BackendError("TensorRT does not read the graph {}: {}".format(graph.name, " ".join(str(said).split())[:200]))
    return network, parser


def _config(trt: Any, builder: Any, wanted: List[Profile], half: bool, workspace: int, monitor: Optional[Any]) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if half and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.REFIT)
    if monitor is not None and hasattr(config, "progress_monitor"):
        config.progress_monitor = monitor
    for each in wanted:
        profile = builder.create_optimization_profile()
        for name, (low, usual, high) in each.items():
            profile.set_shape(name, low, usual, high)
        if config.add_optimization_profile(profile) < 0:
            raise BackendError("TensorRT refuses the sizes that an engine is to be built for.")
    return config


def build_plan(folder: ModelFolder, part: NetworkPart, cuda: Cuda, pictures: int, cancelled: Callable[[], bool]) -> bytes:
    """One network's engine. Raises :class:`BackendError` with TensorRT's reason, :class:`Cancelled`."""
    trt = bindings()
    if not hasattr(trt, "Builder"):
        raise BackendError("The lean runtime of TensorRT cannot build engines; install the whole TensorRT.")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # The parser is kept until the engine is built, as the network's weights are its.
    network, parser = _network(trt, builder, folder.file(part.tensorrt or part.file), logger)
    free, _ = cuda.memory()
    monitor = _monitor(trt, cancelled)
    wanted = profiles(folder.manifest, part, pictures)
    config = _config(trt, builder, wanted, part.half is not None, int(free * WORKSPACE_PART), monitor)
    plan = builder.build_serialized_network(network, config)
    del parser
    if cancelled():
        raise Cancelled("The building of engines was cancelled.")
    if plan is None:
        raise BackendError(f"TensorRT did not build an engine of {part.network}; its log tells why.")
    return bytes(plan)


def wanted_engines(folder: ModelFolder, store: PlanStore, cuda: Cuda) -> List[Tuple[Path, Dict[str, Any]]]:
    """Where each engine of a model lies, or would lie, and what it depends on. Raises :class:`BackendError`."""
    release = bindings().__version__
    return [
        (store.path(folder, part, cuda.architecture(), release), identity(folder, part, cuda.architecture(), release, store.pictures))
        for part in _parts(folder)
    ]


def _parts(folder: ModelFolder) -> List[NetworkPart]:
    manifest = folder.manifest
    parts: List[NetworkPart] = [*manifest.text_encoders, manifest.unet, manifest.vae_decoder]
    if manifest.networks is None or any(part.tensorrt is None for part in parts):
        raise BackendError(f"The model '{folder.name}' has no graphs for TensorRT; import it again.")
    return parts


def build_engines(
    folder: ModelFolder, store: PlanStore, cuda: Cuda, progress: Progress, cancelled: Callable[[], bool] = lambda: False
) -> int:
    """Builds the engines of a model that are not there yet; returns how many. Raises as :func:`build_plan`, and :class:`OSError`."""
    folder.verify()
    parts, wanted = _parts(folder), wanted_engines(folder, store, cuda)
    pinned, built = [path for path, _ in wanted], 0
    for done, (part, (path, said)) in enumerate(zip(parts, wanted)):
        progress(done, len(parts), part.network)
        if path.is_file():
            continue
        store.keep(path, build_plan(folder, part, cuda, store.pictures, cancelled), said, pinned)
        built += 1
    progress(len(parts), len(parts), "done")
    return built

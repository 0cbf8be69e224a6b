"""Builds the engines of a model with TensorRT's own builder, network by network.

Releases before 10 choose layers' precisions themselves, where they are told that fp16 may be used; from 10 on the graph's types
are kept (strongly typed), as from 11 on there is nothing else. In int8 it is calibrated (:mod:`gpu_inference.building.calibration`).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from gpu_inference.building.calibration import calibrator, can_calibrate, collect
from gpu_inference.building.fused import fused_graph, touching
from gpu_inference.building.plan_folder import FUSED, SUFFIX
from gpu_inference.building.plans import PlanStore
from gpu_inference.building.profiles import Profile, profiles
from gpu_inference.engine.backends.cudart import Cuda
from gpu_inference.engine.backends.tensorrt_plan import bindings
from gpu_inference.engine.errors import BackendError, Cancelled
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.protocol_engines import engine_key

Progress = Callable[[int, int, str], None]
"""Called with networks done, networks in all, and what is built now."""

WORKSPACE_PART = 0.5
"""The part of the device's free memory that the builder may try layers in."""


class BuildJob(NamedTuple):
    """Of which model engines are built, for what and until when."""

    folder: ModelFolder
    store: PlanStore
    cuda: Cuda
    cancelled: Callable[[], bool]
    loras: Tuple[Applied, ...] = ()


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


def _network(trt: Any, builder: Any, graph: Path, logger: Any, typed: bool) -> Any:
    flags = trt.NetworkDefinitionCreationFlag
    wanted = 0
    if typed and hasattr(flags, "STRONGLY_TYPED"):
        wanted |= 1 << int(flags.STRONGLY_TYPED)
    elif hasattr(flags, "EXPLICIT_BATCH"):
        wanted |= 1 << int(flags.EXPLICIT_BATCH)
    network = builder.create_network(wanted)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        said = parser.get_error(0).desc() if parser.num_errors else "no reason was given"
        raise BackendError("TensorRT does not read the graph {}: {}".format(graph.name, " ".join(str(said).split())[:200]))
    return network, parser


def _config(
    trt: Any, builder: Any, wanted: List[Profile], half: bool, workspace: int, monitor: Optional[Any], ranges: Optional[Any]
) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if ranges is not None:  # such an engine cannot be refitted
        config.set_flag(trt.BuilderFlag.INT8)
        config.set_flag(trt.BuilderFlag.FP16)
        config.int8_calibrator = ranges
    else:
        if half and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
            config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.REFIT)
    if monitor is not None and hasattr(config, "progress_monitor"):
        config.progress_monitor = monitor
    for number, each in enumerate(wanted):
        profile = builder.create_optimization_profile()
        for name, (low, usual, high) in each.items():
            profile.set_shape(name, low, usual, high)
        if config.add_optimization_profile(profile) < 0:
            raise BackendError("TensorRT refuses the sizes that an engine is to be built for.")
        if ranges is not None and not number:
            config.set_calibration_profile(profile)
    return config


def build_plan(job: BuildJob, part: NetworkPart, graph: Path, ranges: Optional[Any] = None) -> memoryview:
    """One network's engine in the builder's own memory, in int8 where ``ranges`` (a calibrator) is given.

    Raises :class:`BackendError` with TensorRT's reason, :class:`Cancelled`.
    """
    trt, cancelled = bindings(), job.cancelled
    if not hasattr(trt, "Builder"):
        raise BackendError("The lean runtime of TensorRT cannot build engines; install the whole TensorRT.")
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    # The parser is kept until the engine is built, as the network's weights are its.
    network, parser = _network(trt, builder, graph, logger, typed=ranges is None)
    free, _ = job.cuda.memory()
    wanted = profiles(job.folder.manifest, part, job.store.pictures)
    config = _config(trt, builder, wanted, part.half is not None, int(free * WORKSPACE_PART), _monitor(trt, cancelled), ranges)
    plan = builder.build_serialized_network(network, config)
    del parser
    if cancelled():
        raise Cancelled("The building of engines was cancelled.")
    if plan is None:
        raise BackendError(f"TensorRT did not build an engine of {part.network}; its log tells why.")
    return memoryview(plan)


def wanted_engines(folder: ModelFolder, store: PlanStore, cuda: Cuda, loras: Sequence[Applied] = ()) -> List[Tuple[Path, Dict[str, Any]]]:
    """Where each engine of a model lies, or would lie, and what it depends on. Raises :class:`BackendError`."""
    release, architecture, wanted = bindings().__version__, cuda.architecture(), []
    for part in _parts(folder):
        fused = _fused(folder, store, part, loras)
        wanted.append((store.path(folder, part, architecture, release, fused), store.identity(folder, part, architecture, release, fused)))
    return wanted


def _parts(folder: ModelFolder) -> List[NetworkPart]:
    manifest = folder.manifest
    parts: List[NetworkPart] = [*manifest.text_encoders, manifest.unet, manifest.vae_decoder]
    if manifest.networks is None or any(part.tensorrt is None for part in parts):
        raise BackendError(f"The model '{folder.name}' has no graphs for TensorRT; import it again.")
    return parts


def build_engines(
    folder: ModelFolder,
    store: PlanStore,
    cuda: Cuda,
    progress: Progress,
    cancelled: Callable[[], bool] = lambda: False,
    loras: Sequence[Applied] = (),
) -> int:
    """Builds the engines of a model that are not there yet; returns how many. ``loras`` go into the weights of calibrated networks.

    Raises as :func:`build_plan`, and :class:`OSError`.
    """
    folder.verify()
    job = BuildJob(folder, store, cuda, cancelled, tuple(loras))
    parts, wanted = _parts(folder), wanted_engines(folder, store, cuda, loras)
    pinned, built = [path for path, _ in wanted], 0
    for done, (part, (path, said)) in enumerate(zip(parts, wanted)):
        progress(done, len(parts), part.network)
        if path.is_file():
            continue
        store.keep(path, _build_one(job, part), said, pinned)
        built += 1
    progress(len(parts), len(parts), "done")
    return built


def calibrate(folder: ModelFolder, store: PlanStore, cuda: Cuda, prompts: Sequence[str], progress: Progress) -> None:
    """Calibrates the UNet with pictures of these prompts, and builds its engine in int8.

    Raises :class:`BackendError` where this release has no calibrators, and as :func:`build_engines`.
    """
    trt = bindings()
    if not can_calibrate(trt):
        raise BackendError(f"TensorRT {trt.__version__} has no calibrators: releases from 11 on build in int8 what was quantized before.")
    folder.verify()
    part = next(each for each in _parts(folder) if each is folder.manifest.unet)
    job = BuildJob(folder, store, cuda, lambda: False)
    samples = collect(folder, prompts, lambda done, total: progress(done, total, "pictures to calibrate with"), job.cancelled)
    progress(len(prompts), len(prompts), "the engine in int8")
    table = store.calibration(folder, part, trt.__version__)
    fresh = table.with_suffix(".new")  # while it is there alone, the engines that there are stay in use
    try:
        plan = build_plan(job, part, folder.file(part.tensorrt or part.file), calibrator(trt, cuda, fresh, samples))
        if not fresh.is_file():
            raise BackendError("TensorRT has built the engine without a table of ranges; its log tells why.")
        said = store.identity(folder, part, cuda.architecture(), trt.__version__, table=fresh)
        store.keep(store.folder / (engine_key(said) + SUFFIX), plan, said)
        os.replace(str(fresh), str(table))
    finally:
        if fresh.exists():
            fresh.unlink()


def _fused(folder: ModelFolder, store: PlanStore, part: NetworkPart, loras: Sequence[Applied]) -> List[Applied]:
    """The LoRAs that must be in a network's weights: an engine that was not calibrated is refitted instead."""
    return touching(part, loras) if store.calibration(folder, part, bindings().__version__).is_file() else []


def _build_one(job: BuildJob, part: NetworkPart) -> memoryview:
    trt, table = bindings(), job.store.calibration(job.folder, part, bindings().__version__)
    ranges = calibrator(trt, job.cuda, table) if table.is_file() else None
    fused = _fused(job.folder, job.store, part, job.loras)
    if not fused:
        return build_plan(job, part, job.folder.file(part.tensorrt or part.file), ranges)
    job.store.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(job.store.folder), prefix=FUSED) as place:
        return build_plan(job, part, fused_graph(job.folder, part, fused, Path(place)), ranges)

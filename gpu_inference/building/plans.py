"""Where engines are kept: by checkpoint, graph, GPU, release of TensorRT, precision and profile, each in a file of its own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict

from gpu_inference.building.plan_folder import SUFFIX, PlanFolder
from gpu_inference.building.profiles import profiles
from gpu_inference.engine.errors import BackendError
from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.protocol_engines import engine_key

FOLDER_SETTING = "FLEET_ENGINE_PLANS"
PRECISION = "fp16"
PICTURES = 1


def identity(folder: ModelFolder, part: NetworkPart, architecture: str, release: str, pictures: int) -> Dict[str, Any]:
    """All that an engine depends on."""
    manifest = folder.manifest
    graph = part.tensorrt or part.file
    return {
        "model": manifest.name,
        "network": part.network,
        "graph": manifest.sha256[graph],
        "weights": manifest.sha256[part.data] if part.data else "",
        "architecture": architecture,
        "tensorrt": release,
        "precision": PRECISION if part.half else "fp32",
        "profiles": profiles(manifest, part, pictures),
    }


class PlanStore(PlanFolder):
    """The folder of a node's engines, by the models that they are of. They are built for up to ``pictures`` at once."""

    def __init__(self, folder: Path, limit: int = 0, pictures: int = PICTURES) -> None:
        super().__init__(folder, limit)
        self.pictures = pictures

    def path(self, folder: ModelFolder, part: NetworkPart, architecture: str, release: str) -> Path:
        """Where the engine of a network lies, or would lie."""
        return self.folder / (engine_key(identity(folder, part, architecture, release, self.pictures)) + SUFFIX)

    def find(self, folder: ModelFolder, part: NetworkPart, architecture: str, release: str) -> Path:
        """An engine that was built. Raises :class:`BackendError` where it was not."""
        if folder.manifest.networks is None or part.tensorrt is None:
            raise BackendError(f"The model '{folder.name}' has no graphs for TensorRT; import it again.")
        path = self.path(folder, part, architecture, release)
        if not path.is_file():
            raise BackendError(
                f"No engine of TensorRT {release} for {architecture} was built of the model '{folder.name}' yet;"
                f" build it with 'fleet-worker engines build {folder.name}'."
            )
        with suppress(OSError):  # somebody else's file; it then counts as used when it was built
            os.utime(str(path))
        return path


def default_store(limit: int = 0) -> PlanStore:
    """The store that the agent set for its engines: the folder of :data:`FOLDER_SETTING`, else one in the user's cache."""
    said = os.environ.get(FOLDER_SETTING)
    return PlanStore(Path(said) if said else Path.home() / ".cache" / "fleet-worker" / "plans", limit)

"""Where engines are kept: by checkpoint, graph, GPU, release of TensorRT, precision and profile, each in a file of its own."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from gpu_inference.building.fused import said_of, touching
from gpu_inference.building.plan_folder import SUFFIX, PlanFolder
from gpu_inference.building.profiles import profiles
from gpu_inference.engine.errors import NotBuilt
from gpu_inference.engine.loras import Applied
from gpu_inference.engine.manifest import ModelFolder, NetworkPart
from gpu_inference.protocol_engines import engine_key

FOLDER_SETTING = "FLEET_ENGINE_PLANS"
PICTURES_SETTING = "FLEET_ENGINE_PICTURES"
PRECISION = "fp16"
PICTURES = 1


class PlanStore(PlanFolder):
    """The folder of a node's engines, by the models that they are of. They are built for up to ``pictures`` at once."""

    def __init__(self, folder: Path, limit: int = 0, pictures: int = PICTURES) -> None:
        super().__init__(folder, limit)
        self.pictures = pictures

    def calibration(self, folder: ModelFolder, part: NetworkPart, release: str) -> Path:
        """Where the table of ranges of a network lies, once it was calibrated. It does not depend on the size or the device."""
        sha256 = folder.manifest.sha256
        name = "-".join((sha256[part.tensorrt or part.file][:16], sha256[part.data][:16] if part.data else "", release))
        return self.folder / "calibrations" / f"{name}.table"

    def identity(
        self,
        folder: ModelFolder,
        part: NetworkPart,
        architecture: str,
        release: str,
        loras: Sequence[Applied] = (),
        table: Optional[Path] = None,
    ) -> Dict[str, Any]:
        """All that an engine depends on; ``loras`` are those that are in its weights, ``table`` another than the network's own."""
        manifest = folder.manifest
        said = {
            "model": manifest.name,
            "network": part.network,
            "graph": manifest.sha256[part.tensorrt or part.file],
            "weights": manifest.sha256[part.data] if part.data else "",
            "architecture": architecture,
            "tensorrt": release,
            "precision": PRECISION if part.half else "fp32",
            "profiles": profiles(manifest, part, self.pictures),
        }
        table = table or self.calibration(folder, part, release)
        if table.is_file():
            said.update(precision="int8", calibration=hashlib.sha256(table.read_bytes()).hexdigest())
        fused = touching(part, loras)
        return {**said, "loras": said_of(fused)} if fused else said

    def path(self, folder: ModelFolder, part: NetworkPart, architecture: str, release: str, loras: Sequence[Applied] = ()) -> Path:
        """Where the engine of a network lies, or would lie."""
        return self.folder / (engine_key(self.identity(folder, part, architecture, release, loras)) + SUFFIX)

    def find(self, folder: ModelFolder, part: NetworkPart, architecture: str, release: str, loras: Sequence[Applied] = ()) -> Path:
        """An engine that was built. Raises :class:`NotBuilt` where it was not."""
        if folder.manifest.networks is None or part.tensorrt is None:
            raise NotBuilt(f"The model '{folder.name}' has no graphs for TensorRT; import it again.")
        path = self.path(folder, part, architecture, release, loras)
        if not path.is_file():
            named = "".join(f" --lora {each.lora.name}:{round(each.strength, 6)!r}" for each in touching(part, loras))
            raise NotBuilt(
                f"No engine of TensorRT {release} for {architecture} was built of the model '{folder.name}'{named and ' with that'} yet;"
                f" build it with 'fleet engines build NODE_ID {folder.name}{named}', or on the node with"
                f" 'fleet-worker engines build {folder.name}{named}'."
            )
        with suppress(OSError):  # somebody else's file; it then counts as used when it was built
            os.utime(str(path))
        return path


def default_store(limit: int = 0) -> PlanStore:
    """The store that the agent set for its engines: the folder of :data:`FOLDER_SETTING`, else one in the user's cache.

    They are for so many pictures at once as :data:`PICTURES_SETTING` says.
    """
    said, pictures = os.environ.get(FOLDER_SETTING), os.environ.get(PICTURES_SETTING, "")
    folder = Path(said) if said else Path.home() / ".cache" / "fleet-worker" / "plans"
    return PlanStore(folder, limit, int(pictures) if pictures.isdigit() and int(pictures) else PICTURES)

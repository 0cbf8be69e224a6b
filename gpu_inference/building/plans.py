"""Where engines are kept: by checkpoint, graph, GPU, release of TensorRT, precision and profile, each in a file of its own."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from gpu_inference.building.profiles import profiles
from gpu_inference.engine.errors import BackendError
from gpu_inference.engine.manifest import ModelFolder, NetworkPart

FOLDER_SETTING = "FLEET_ENGINE_PLANS"
SUFFIX = ".plan"
_RECORD = ".json"
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


def key_of(said: Dict[str, Any]) -> str:
    """The SHA-256 of an engine's identity; the model's name is no part of it."""
    text = json.dumps({name: value for name, value in said.items() if name != "model"}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


class PlanStore:
    """A folder of engines, under a limit of bytes; what was used least recently goes first. 0 is no limit."""

    def __init__(self, folder: Path, limit: int = 0, pictures: int = PICTURES) -> None:
        self.folder, self.limit, self.pictures = folder, limit, pictures

    def path(self, folder: ModelFolder, part: NetworkPart, architecture: str, release: str) -> Path:
        """Where the engine of a network lies, or would lie."""
        return self.folder / (key_of(identity(folder, part, architecture, release, self.pictures))[:32] + SUFFIX)

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

    def keep(self, path: Path, plan: bytes, said: Dict[str, Any], pinned: Sequence[Path] = ()) -> None:
        """Writes an engine, whole or not at all, and what it is beside it; others, but those ``pinned``, make room for it.

        Raises :class:`OSError`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(len(plan), pinned)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as stream:
                stream.write(plan)
                stream.flush()
                os.fsync(stream.fileno())
            path.with_suffix(_RECORD).write_text(json.dumps(dict(said, size=len(plan)), indent=2) + "\n", encoding="utf-8")
            os.replace(str(part), str(path))
        finally:
            if part.exists():
                part.unlink()

    def all(self) -> List[Dict[str, Any]]:
        """What is there, as it was built; unreadable records are left out."""
        found = []
        for record in sorted(self.folder.glob("*" + _RECORD)):
            if record.with_suffix(SUFFIX).is_file():
                try:
                    found.append(dict(json.loads(record.read_text(encoding="utf-8")), file=record.stem + SUFFIX))
                except (OSError, ValueError):
                    continue
        return found

    def remove(self, model: Optional[str] = None) -> int:
        """Removes the engines of a model, or all; returns how many."""
        count = 0
        for said in self.all():
            if model is None or said.get("model") == model:
                self._unlink(self.folder / str(said["file"]))
                count += 1
        return count

    def _make_room(self, size: int, pinned: Sequence[Path]) -> None:
        if not self.limit:
            return
        there = sorted(self.folder.glob("*" + SUFFIX), key=lambda path: path.stat().st_mtime)
        held = sum(path.stat().st_size for path in there)
        for path in there:
            if held + size <= self.limit:
                return
            if path in pinned:
                continue
            held -= path.stat().st_size
            self._unlink(path)

    @staticmethod
    def _unlink(path: Path) -> None:
        for each in (path, path.with_suffix(_RECORD)):
            if each.exists():
                each.unlink()


def default_store() -> PlanStore:
    """The store that the agent set for its engines: the folder of :data:`FOLDER_SETTING`, else one in the user's cache."""
    said = os.environ.get(FOLDER_SETTING)
    return PlanStore(Path(said) if said else Path.home() / ".cache" / "fleet-worker" / "plans")

"""The models an engine can load, and the one it has loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from gpu_inference.engine.errors import ModelError, UnknownModel
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.protocol import ModelInfo


class Catalogue:
    """Models by name; the first is the default. One pipeline is held at a time."""

    def __init__(self, paths: Sequence[Path], load: Callable[[ModelFolder], Pipeline]) -> None:
        """A folder that is no sound model is left out; ``problems`` says which and why."""
        self.folders: Dict[str, ModelFolder] = {}
        self.problems: List[str] = []
        self._load = load
        self._pipeline: Optional[Pipeline] = None
        for path in paths:
            try:
                folder = load_model_folder(path)
            except ModelError as error:
                self.problems.append(str(error))
            else:
                self.folders.setdefault(folder.name, folder)

    def infos(self) -> List[ModelInfo]:
        """The models as the control plane is told of them."""
        return [
            ModelInfo(name=folder.name, type=folder.manifest.type, size_bytes=folder.size_bytes(), native_size=folder.manifest.native_size)
            for folder in self.folders.values()
        ]

    @property
    def loaded(self) -> Optional[str]:
        """The name of the loaded model."""
        return None if self._pipeline is None else self._pipeline.folder.name

    def pipeline(self, name: Optional[str]) -> Pipeline:
        """The pipeline of the model ``name`` (None: the default), loaded if need be, the one before it freed.

        Raises :class:`UnknownModel`, or what loading raises.
        """
        if not self.folders:
            raise ModelError("This node has no model. {}".format(" ".join(self.problems)))
        name = name or next(iter(self.folders))
        if name not in self.folders:
            raise UnknownModel("The model '{:.100}' is not on this node; there are: {}.".format(name, ", ".join(self.folders)))
        if self._pipeline is None or self._pipeline.folder.name != name:
            self.close()
            self._pipeline = self._load(self.folders[name])
        return self._pipeline

    def close(self) -> None:
        """Frees the loaded model."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

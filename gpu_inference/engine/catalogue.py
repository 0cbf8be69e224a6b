"""The models and LoRAs that an engine can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from gpu_inference.engine import wire
from gpu_inference.engine.backends.base import Backend
from gpu_inference.engine.errors import LoraError, ModelError, UnknownModel
from gpu_inference.engine.library import find
from gpu_inference.engine.loras import Applied, Lora, choose, load_lora
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import RenderRequest
from gpu_inference.engine.shelf import Shelf
from gpu_inference.protocol import LoraInfo, ModelInfo


class Catalogue:
    """Models by name, the first is the default, and LoRAs by name. What is loaded is on a shelf (:mod:`gpu_inference.engine.shelf`)."""

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[ModelFolder], Pipeline],
        library: Optional[Path] = None,
        shelf: Optional[Shelf] = None,
    ) -> None:
        """``paths`` are models or libraries of them. What is not sound is left out; ``problems`` says what and why.

        ``library`` comes after them; it may be empty, and what is in it may change (:meth:`scan`). ``shelf`` keeps what is loaded; one
        of a single place is made where none is given.
        """
        self.folders: Dict[str, ModelFolder] = {}
        self.loras: Dict[str, Lora] = {}
        self.problems: List[str] = []
        self._shelf = shelf or Shelf(load)
        self._paths, self._library = paths, library
        self.scan()

    def scan(self) -> None:
        """Looks at what there is. A loaded model that is there no more is freed."""
        self.folders, self.loras, self.problems = {}, {}, []
        found = find(self._paths)
        if self._library is not None and self._library.is_dir():
            more = find([self._library])
            found.models.extend(path for path in more.models if path != self._library)
            found.loras.extend(more.loras)
        for path in found.models:
            try:
                folder = load_model_folder(path)
            except ModelError as error:
                self.problems.append(str(error))
            else:
                self.folders.setdefault(folder.name, folder)
        for path in found.loras:
            try:
                lora = load_lora(path)
            except LoraError as error:
                self.problems.append(str(error))
            else:
                self.loras.setdefault(lora.name, lora)
        self._shelf.keep(self.folders)

    def infos(self) -> List[ModelInfo]:
        """The models as the control plane is told of them."""
        return [
            ModelInfo(
                name=folder.name,
                type=folder.manifest.type,
                size_bytes=folder.size_bytes(),
                native_size=folder.manifest.native_size,
                needs_mib=round(self._shelf.needs(folder), 1),
                fetched=self._fetched(folder.path),
            )
            for folder in self.folders.values()
        ]

    def lora_infos(self) -> List[LoraInfo]:
        """The LoRAs as the control plane is told of them."""
        return [lora.info().model_copy(update={"fetched": self._fetched(lora.file.path)}) for lora in self.loras.values()]

    def _fetched(self, path: Path) -> bool:
        return self._library is not None and self._library in path.parents

    @property
    def loaded(self) -> Optional[str]:
        """The name of the loaded model."""
        return None if self._shelf.current is None else self._shelf.current.folder.name

    @property
    def backend(self) -> Optional[Backend]:
        """What the loaded model is on."""
        return None if self._shelf.current is None else self._shelf.current.backend

    @property
    def spare(self) -> List[str]:
        """The names of the others that are loaded, too."""
        return self._shelf.spare()

    @property
    def parked(self) -> List[str]:
        """The names of those that left their GPU and wait in the machine's memory."""
        return self._shelf.parked()

    def is_warm(self, name: Optional[str]) -> bool:
        """Whether the model ``name`` (None: the default) needs no loading."""
        folder = self.folders.get(name or next(iter(self.folders), ""))
        return folder is not None and self._shelf.has(folder)

    def pipeline(self, name: Optional[str]) -> Pipeline:
        """The pipeline of the model ``name`` (None: the default), loaded if need be; for which others may be let go.

        Raises :class:`UnknownModel`, or what loading raises.
        """
        return self._shelf.get(self.folders[self._name(name)])

    def applied(self, request: RenderRequest) -> List[Applied]:
        """The LoRAs that a request names, for its model. Raises as :meth:`lora`."""
        found = [(self.lora(name, request.model), strength) for name, strength in request.loras]
        return [Applied(lora, strength) for lora, strength in found if lora is not None]

    def lora(self, name: Optional[str], model: Optional[str]) -> Optional[Lora]:
        """The LoRA ``name`` for the model ``model`` (None: the default).

        Raises :class:`UnknownModel`, or what :func:`gpu_inference.engine.loras.choose` raises.
        """
        return choose(self.loras, name, self._name(model))

    def _name(self, name: Optional[str]) -> str:
        if not self.folders:
            raise ModelError("This node has no model. {}".format(" ".join(self.problems)))
        name = name or next(iter(self.folders))
        if name not in self.folders:
            raise UnknownModel("The model '{:.100}' is not on this node; there are: {}.".format(name, ", ".join(self.folders)))
        return name

    def close(self, what: str = wire.ALL, park: bool = False) -> None:
        """Frees all; or the spare ones alone and what the one in use keeps for speed, or only those that are parked.

        With ``park`` what leaves a GPU's own memory waits in the machine's, where it can; what is parked already stays, unless it is named.
        """
        if what == wire.ALL and not park:
            self._shelf.clear()
            return
        loaded = [] if what == wire.SPARES or self.loaded is None else [self.loaded]
        for name in self.parked if what == wire.PARKED else [*self.spare, *loaded]:
            if park:
                self._shelf.leave(name)
            else:
                self._shelf.drop(name)
        if what == wire.SPARES and self.backend is not None:
            self.backend.relieve()

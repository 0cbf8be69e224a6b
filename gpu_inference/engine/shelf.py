"""The models that are loaded: the one used last, and spare ones beside it for as long as there is memory for them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Dict, List, Optional

from gpu_inference import free_memory, memory
from gpu_inference.engine.errors import NoRoom
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.places import Place, host


class Shelf:
    """Holds one model and up to ``spares`` more. ``place`` says whose memory a model takes from; what each took of it is remembered."""

    def __init__(
        self,
        load: Callable[[ModelFolder], Pipeline],
        spares: int = 0,
        place: Callable[[ModelFolder], Place] = host,
    ) -> None:
        self._load = load
        self._spares = spares
        self._place = place
        self._held: OrderedDict[str, Pipeline] = OrderedDict()
        self._took: Dict[str, float] = {}
        self._places: Dict[str, str] = {}

    @property
    def current(self) -> Optional[Pipeline]:
        """The one used last."""
        return next(reversed(self._held.values()), None)

    def spare(self) -> List[str]:
        """The names of the others."""
        return list(self._held)[:-1]

    def needs(self, folder: ModelFolder) -> float:
        """MiB that a model takes, loaded and at work."""
        factor = memory.LOAD_FACTOR if folder.manifest.networks is None else memory.IMPORTED_FACTOR
        return memory.needed(folder.size_bytes(), folder.manifest.native_size, self._took.get(folder.name), factor)

    def has(self, folder: ModelFolder) -> bool:
        """Whether it is loaded."""
        return folder.name in self._held

    def get(self, folder: ModelFolder) -> Pipeline:
        """The pipeline of a model, loaded if need be; others are let go for it, that not used for longest first.

        Raises :class:`NoRoom` where it would not fit beside nothing else, and what loading raises.
        """
        if folder.name not in self._held:
            place = self._place(folder)
            self._make_room(folder, place)
            before = place.taken()
            self._held[folder.name] = self._load(folder)
            self._took[folder.name] = max(0.0, place.taken() - before)
            self._places[folder.name] = place.name
        self._held.move_to_end(folder.name)
        return self._held[folder.name]

    def drop(self, name: str) -> None:
        """Lets one go, where it is held."""
        pipeline = self._held.pop(name, None)
        if pipeline is not None:
            pipeline.close()
            del pipeline
            free_memory.give_back()

    def keep(self, folders: Dict[str, ModelFolder]) -> None:
        """Lets go what is not, or no longer the same, in ``folders``."""
        for name, pipeline in list(self._held.items()):
            if folders.get(name) != pipeline.folder:
                self.drop(name)

    def clear(self) -> None:
        """Lets all go."""
        for name in list(self._held):
            self.drop(name)

    def _make_room(self, folder: ModelFolder, place: Place) -> None:
        need, room = self.needs(folder), place.room()
        given_back = sum(self._took.get(name, 0.0) for name in self._beside(place))
        if not memory.fits(need, room, given_back):
            free = max(0.0, room.available + given_back - memory.floor(room.total))
            raise NoRoom(f"The model '{folder.name}' needs about {memory.said(need)} of memory, and {memory.said(free)} can be had here.")
        while len(self._held) > self._spares:
            self.drop(next(iter(self._held)))
        while self._beside(place) and not memory.fits(need, place.room()):
            self.drop(self._beside(place)[0])

    def _beside(self, place: Place) -> List[str]:
        """The models that take from the same memory; that not used for longest first."""
        return [name for name in self._held if self._places.get(name) == place.name]

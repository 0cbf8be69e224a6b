"""The models that are loaded: the one used last, and spare ones beside it for as long as there is memory for them.

A spare model that must leave a GPU's own memory is parked where the machine's has room: it waits there, and comes back without its files
being read. Where a GPU shares the machine's memory, or there is none, nothing is parked.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Callable, Dict, List, Optional

from gpu_inference import free_memory, memory
from gpu_inference.engine.errors import NoRoom
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.places import GPU, Place, host, host_room


class Shelf:
    """Holds one model and up to ``spares`` more, parked ones among them.

    ``place`` says whose memory a model takes from, and what each took of it is remembered; ``room`` is the machine's for what is parked,
    where so many MiB of files are still to be read.
    """

    def __init__(
        self,
        load: Callable[[ModelFolder], Pipeline],
        spares: int = 0,
        place: Callable[[ModelFolder], Place] = host,
        room: Optional[Callable[[float], memory.Room]] = None,
    ) -> None:
        self._load = load
        self._spares = spares
        self._place = place
        self._room = room or host_room()
        self._held: OrderedDict[str, Pipeline] = OrderedDict()
        """All of them, parked or not; the one used last is the last."""

        self._parked: Dict[str, float] = {}
        """What those that are parked took of the machine's memory."""

        self._took: Dict[str, float] = {}
        self._places: Dict[str, str] = {}

    @property
    def current(self) -> Optional[Pipeline]:
        """The one used last of those that are loaded."""
        loaded = self._loaded()
        return self._held[loaded[-1]] if loaded else None

    def spare(self) -> List[str]:
        """The names of the others that are loaded."""
        return self._loaded()[:-1]

    def parked(self) -> List[str]:
        """The names of those that wait in the machine's memory."""
        return [name for name in self._held if name in self._parked]

    def needs(self, folder: ModelFolder) -> float:
        """MiB that a model takes, loaded and at work."""
        factor = memory.LOAD_FACTOR if folder.manifest.networks is None else memory.IMPORTED_FACTOR
        return memory.needed(folder.size_bytes(), folder.manifest.native_size, self._took.get(folder.name), factor)

    def has(self, folder: ModelFolder) -> bool:
        """Whether it is loaded, and not parked."""
        return folder.name in self._held and folder.name not in self._parked

    def get(self, folder: ModelFolder) -> Pipeline:
        """The pipeline of a model, loaded or woken if need be; others make room for it, that not used for longest first.

        Raises :class:`NoRoom` where it would not fit beside nothing else, and what loading raises.
        """
        if folder.name in self._parked:
            self._wake(folder)
        elif folder.name not in self._held:
            place = self._place(folder)
            self._make_room(folder, place)
            before = place.taken()
            self._held[folder.name] = self._load(folder)
            self._took[folder.name] = max(0.0, place.taken() - before)
            self._places[folder.name] = place.name
        self._held.move_to_end(folder.name)
        self._relieve_host()
        return self._held[folder.name]

    def drop(self, name: str) -> None:
        """Lets one go, where it is held or parked."""
        pipeline = self._held.pop(name, None)
        self._parked.pop(name, None)
        if pipeline is not None:
            pipeline.close()
            del pipeline
            free_memory.give_back()

    def leave(self, name: str, coming: str = "", reading: float = 0.0) -> None:
        """Has one give back the memory that it takes: from a GPU it is parked where that goes, else let go.

        ``coming`` is the model for which it leaves, of which so many MiB of files will be read.
        """
        if name in self._parked or not self._park(name, coming, reading):
            self.drop(name)

    def keep(self, folders: Dict[str, ModelFolder]) -> None:
        """Lets go what is not, or no longer the same, in ``folders``."""
        for name, pipeline in list(self._held.items()):
            if folders.get(name) != pipeline.folder:
                self.drop(name)

    def clear(self) -> None:
        """Lets all go."""
        for name in list(self._held):
            self.drop(name)

    def _loaded(self) -> List[str]:
        return [name for name in self._held if name not in self._parked]

    def _relieve_host(self) -> None:
        """Lets parked models go, that not used for longest first, until the machine's memory is short no more."""
        for name in self.parked():
            if memory.is_short(self._room(0.0)):
                self.drop(name)

    def _make_room(self, folder: ModelFolder, place: Place) -> None:
        """Has others leave until the model fits; it may be parked itself."""
        need, room = self.needs(folder), place.room()
        reading = 0.0 if folder.name in self._parked else folder.size_bytes() / memory.MIB
        given_back = sum(self._parked.get(name, self._took.get(name, 0.0)) for name in self._beside(folder, place))
        if not memory.fits(need, room, given_back):
            free = max(0.0, room.available + given_back - memory.floor(room.total))
            raise NoRoom(f"The model '{folder.name}' needs about {memory.said(need)} of memory, and {memory.said(free)} can be had here.")
        others = [name for name in self._held if name != folder.name]
        for name in others[: max(0, len(others) - self._spares)]:
            self.drop(name)
        while self._beside(folder, place) and not memory.fits(need, place.room()):
            self.leave(self._beside(folder, place)[0], folder.name, reading)
        for name in self.parked():
            if name != folder.name and memory.is_short(self._room(reading)):
                self.drop(name)

    def _beside(self, folder: ModelFolder, place: Place) -> List[str]:
        """The others that take from the same memory: parked ones first where it is the machine's, and that not used for longest."""
        parked = [] if place.name == GPU else [name for name in self.parked() if name != folder.name]
        return parked + [name for name in self._loaded() if self._places.get(name) == place.name]

    def _park(self, name: str, coming: str, reading: float) -> bool:
        """Takes a model from a GPU's memory to the machine's, where that has room for its files; returns whether it is there.

        Those that were parked before it go first, if that is what it takes; not so the one that is ``coming``.
        """
        pipeline = self._held[name]
        if self._places.get(name) != GPU or not pipeline.backend.parks:
            return False
        size = pipeline.folder.size_bytes() / memory.MIB
        older = [each for each in self.parked() if each != coming]
        if not memory.fits(size, self._room(reading), sum(self._parked[each] for each in older)):
            return False
        while older and not memory.fits(size, self._room(reading)):
            self.drop(older.pop(0))
        before = self._room(reading)
        if not memory.fits(size, before) or not pipeline.backend.park():
            return False
        free_memory.give_back()
        self._parked[name] = max(0.0, before.available - self._room(reading).available)
        return True

    def _wake(self, folder: ModelFolder) -> None:
        """Takes a parked model back to its GPU. One that cannot be woken is let go; where it lacks room there, it stays parked."""
        self._make_room(folder, self._place(folder))
        try:
            self._held[folder.name].backend.wake()
        except NoRoom:
            raise
        except Exception:
            self.drop(folder.name)
            raise
        del self._parked[folder.name]
        free_memory.give_back()

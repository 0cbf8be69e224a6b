"""Whose memory a model takes from: the machine's, or that of a GPU that has its own."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from gpu_inference import free_memory, memory
from gpu_inference.engine.backends import on_gpu, resolve
from gpu_inference.engine.manifest import ModelFolder

GPU, HOST = "gpu", "host"


class Place(NamedTuple):
    """A memory: ``room`` says what there is of it, ``taken`` how much the engine has, by which what a model took is measured."""

    name: str
    room: Callable[[], memory.Room]
    taken: Callable[[], float]


def host(_folder: Optional[ModelFolder] = None) -> Place:
    """The machine's memory, of which a process has what is resident."""
    return Place(HOST, free_memory.room, free_memory.held)


def host_room(limit: Optional[float] = None) -> Callable[[float], memory.Room]:
    """Says what there is of the machine's memory for this process, which may have ``limit`` of it and will read so much of files, in MiB.

    Files that are mapped while they are read count as the process's, but the system has their memory back when it wants it.
    """
    return lambda reading: memory.within(free_memory.room(), limit, free_memory.held() + reading)


def place_of(backend: str, limit: Optional[float]) -> Callable[[ModelFolder], Place]:
    """Says of each model where the backend ``backend`` (``auto``: the best) holds it; ``limit`` is what this process may have, in MiB.

    What a GPU takes is in no process's resident set, also where it shares the machine's memory: there it is measured by what is missing.
    What a process has of the machine's memory, as what is parked there, counts nothing in a GPU's own.
    What is returned raises :class:`gpu_inference.engine.errors.BackendError` where ``backend`` cannot be chosen for a model.
    """

    def placed(folder: ModelFolder) -> Place:
        gpu = on_gpu(resolve(backend, folder))
        own = gpu and free_memory.gpu_room() is not None

        def room() -> memory.Room:
            return memory.within(free_memory.room_of(gpu), limit, 0.0 if own else free_memory.held())

        def taken() -> float:
            return -free_memory.room_of(gpu).available if gpu else free_memory.held()

        return Place(GPU if own else HOST, room, taken)

    return placed

"""How much memory a model needs, how much must stay free, and when an engine has taken too much. Pure; memory in MiB."""

from __future__ import annotations

from typing import NamedTuple, Optional

MIB = 1024.0 * 1024.0
GIB_OF_MIB = 1024.0

LOAD_FACTOR = 1.5
"""Memory of a loaded model to the size of its files, before it was measured: ONNX Runtime takes 1.02 to 1.5 (page 39 of the decisions)."""

IMPORTED_FACTOR = 1.1
"""The same for an imported model, whose weights are computed with as they are stored, or stay in their file."""

PIXEL_BYTES = 1536.0
"""What a picture takes while it is made, for each of its pixels: the widest layers of SDXL's decoder in fp32."""

LEAST_FLOOR_MIB, FLOOR_PART = 256.0, 0.04
"""So much of the memory stays free: under it nothing is loaded, and what is loaded and not at work is let go."""

LAST_PART = 0.5
"""Under this part of the floor the engine is ended, before the kernel ends whatever it likes."""

HOG_PART = 0.1
"""An engine that holds less than this part of the memory is not what has filled it."""


class Room(NamedTuple):
    """The memory that there is, and how much of it could be had now."""

    total: float
    available: float


def needed(size_bytes: float, native_size: int, measured: Optional[float] = None, factor: float = LOAD_FACTOR) -> float:
    """What a model takes, loaded and at work; ``measured`` is what loading it took here before, ``factor`` what is supposed until then."""
    loaded = size_bytes / MIB * factor if measured is None else measured
    return loaded + native_size * native_size * PIXEL_BYTES / MIB


def floor(total: float) -> float:
    """What must stay free."""
    return min(max(LEAST_FLOOR_MIB, FLOOR_PART * total), 0.25 * total)


def fits(need: float, room: Room, given_back: float = 0.0) -> bool:
    """Whether so much may be taken, once ``given_back`` was freed."""
    return need + floor(room.total) <= room.available + given_back


def within(room: Room, limit: Optional[float], held: float) -> Room:
    """The room of a process that holds so much already and may have ``limit``, its floor included."""
    if limit is None:
        return room
    return Room(min(room.total, limit), max(0.0, min(room.available, limit - held)))


def is_short(room: Room) -> bool:
    """Whether what is not at work should be let go."""
    return room.available < floor(room.total)


def why_too_much(held: float, room: Room, limit: Optional[float]) -> Optional[str]:
    """One sentence on why an engine that holds so much is ended, or None."""
    if limit is not None and held > limit:
        return f"The engine took {said(held)} of memory, more than the {said(limit)} that it may have, and was ended."
    if held >= HOG_PART * room.total and room.available < LAST_PART * floor(room.total):
        return (
            f"The node had {said(room.available)} of memory left while the engine held {said(held)} of it:"
            " the engine was ended before the system would have ended something."
        )
    return None


def said(amount: float) -> str:
    """An amount in words."""
    return f"{amount / GIB_OF_MIB:.1f} GiB" if amount >= GIB_OF_MIB else f"{amount:.0f} MiB"


def of_group(limit: float, used: float, reclaimable: float) -> float:
    """What a control group may still take; what it caches of files can be had back."""
    return max(0.0, limit - max(0.0, used - reclaimable))

"""A network's tensors in the host's memory, for as long as the device's is needed for others."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict

import torch

Tensor = Any


class Parked:
    """Copies of tensors of one type, in one piece of memory, from which a device reads fastest where it can be pinned.

    It is memory like any other that is pinned afterwards: what torch pins by itself is rounded up to a power of two and kept when freed.
    """

    def __init__(self, tensors: Dict[str, Tensor]) -> None:
        """Each tensor fills its memory without gaps, in whatever order of its dimensions; that order stays. Raises what torch raises."""
        self._memory = torch.empty(sum(each.numel() for each in tensors.values()), dtype=next(iter(tensors.values())).dtype)
        self._pinned = _pin(self._memory)
        self._tensors: Dict[str, Tensor] = {}
        try:
            start = 0
            for name, tensor in tensors.items():
                self._tensors[name] = torch.as_strided(self._memory, tensor.size(), tensor.stride(), start).copy_(tensor)
                start += tensor.numel()
        except Exception:
            self.close()
            raise

    def on(self, device: str) -> Dict[str, Tensor]:
        """The tensors on a device, as they were."""
        return {
            name: torch.empty_strided(each.size(), each.stride(), dtype=each.dtype, device=device).copy_(each)
            for name, each in self._tensors.items()
        }

    def close(self) -> None:
        """Gives the memory back."""
        if self._pinned:
            torch.cuda.cudart().cudaHostUnregister(self._memory.data_ptr())
            self._pinned = False
        self._tensors.clear()
        self._memory = torch.empty(0)


def _pin(memory: Tensor) -> bool:
    """Whether memory could be pinned; it serves as well where it could not, and is only read more slowly."""
    if not torch.cuda.is_available():
        return False
    if int(torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.numel() * memory.element_size(), 0)) == 0:
        return True
    _forget_error()
    return False


def _forget_error() -> None:
    """CUDA keeps an error until it is asked for: the next kernel asks, and would be taken to have failed."""
    with suppress(RuntimeError):
        torch.ones(1, device="cuda")

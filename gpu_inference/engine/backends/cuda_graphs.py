"""Records a function's kernels once for each set of shapes, and replays them: a launch for all instead of one for each."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

import torch

Tensor = Any
_WARM_RUNS = 3
"""Before recording, as libraries choose their algorithms and take their memory at the first calls."""

KEPT = 4
"""Sets of shapes that stay recorded; the oldest goes."""


class Recorded:
    """A function of CUDA tensors whose results depend on nothing else; its result is good until the next call."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._graphs: Dict[Tuple[Any, ...], Tuple[Any, List[Tensor], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The function's result for ``inputs``."""
        key = tuple((tuple(each.shape), each.dtype) for each in inputs)
        if key not in self._graphs:
            if len(self._graphs) >= KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = self._record([each.clone() for each in inputs])
        graph, places, result = self._graphs[key]
        for place, value in zip(places, inputs):
            place.copy_(value)
        graph.replay()
        return result

    def _record(self, places: List[Tensor]) -> Tuple[Any, List[Tensor], Tensor]:
        stream: Any = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                self._function(*places)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._function(*places)
        return graph, places, result

    def clear(self) -> None:
        """Forgets what was recorded, and frees its memory."""
        self._graphs.clear()

"""What work takes by the word of a cost table: a JSON file, for tests and trials.

::

    {
      "models": [
        {"name": "sim-a", "load_seconds": 2.0, "seconds_per_megapixel_step": 0.1, "size_bytes": 6500000000, "native_size": 1024}
      ],
      "samplers": ["euler"],
      "jitter": 0.1,
      "batch": 4,
      "batch_factor": 0.7
    }

``size_bytes``, ``native_size``, ``samplers``, ``jitter``, ``batch`` and ``batch_factor`` may be left out. ``jitter`` is a part: with 0.1 a
step takes 90 % to 110 %. ``batch`` pictures are made at once (1 where it is left out), in 1 + ``batch_factor`` x (n - 1) times the time of
one, for n of them: 0 where all the others are for nothing, 1 where nothing is gained.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

from gpu_inference.engine.errors import ModelError, UnknownModel
from gpu_inference.protocol import ModelInfo

MEGAPIXEL = 1_000_000.0
LONGEST = 36_000.0
MOST_JITTER = 0.9
MOST_AT_ONCE = 64


@dataclass(frozen=True)
class SimModel:
    """A model that is not there, and what it would take (seconds)."""

    name: str
    load_seconds: float
    seconds_per_megapixel_step: float
    size_bytes: int = 0
    native_size: int = 1024

    def info(self) -> ModelInfo:
        """The model as the control plane is told of it."""
        return ModelInfo(name=self.name, size_bytes=self.size_bytes, native_size=self.native_size)

    def step_seconds(self, width: int, height: int) -> float:
        """The seconds of one step at a size in pixels, on a node of factor 1 and without jitter."""
        return self.seconds_per_megapixel_step * width * height / MEGAPIXEL


@dataclass(frozen=True)
class SimTable:
    """The whole table; the first model is the default."""

    models: Tuple[SimModel, ...]
    samplers: Tuple[str, ...] = ("euler",)
    jitter: float = 0.0
    batch: int = 1
    batch_factor: float = 1.0

    def together(self, number: int) -> float:
        """How many times as long as one picture so many at once take."""
        return 1.0 + self.batch_factor * (number - 1)

    def model(self, name: str) -> SimModel:
        """The model ``name``; an empty name is the default. Raises :class:`UnknownModel`."""
        for model in self.models:
            if name in ("", model.name):
                return model
        names = ", ".join(model.name for model in self.models)
        raise UnknownModel(f"The model '{name:.100}' is not in the simulated engine's table; there are: {names}.")


def _number(row: Dict[str, Any], name: str, high: float, where: str, default: float = -1.0) -> float:
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or not 0 <= value <= high:
        raise ModelError(f"{where}: {name} must be a number from 0 to {high:g}.")
    return float(value)


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        raise ModelError(f"{where} must be a name of 1 to 200 characters.")
    return value


def _model(row: Any, where: str) -> SimModel:
    if not isinstance(row, dict):
        raise ModelError(f"{where} must be an object with name, load_seconds and seconds_per_megapixel_step.")
    return SimModel(
        name=_name(row.get("name"), f"{where}: name"),
        load_seconds=_number(row, "load_seconds", LONGEST, where),
        seconds_per_megapixel_step=_number(row, "seconds_per_megapixel_step", LONGEST, where),
        size_bytes=int(_number(row, "size_bytes", 2.0**50, where, 0)),
        native_size=int(_number(row, "native_size", 65_536, where, 1024)),
    )


def _rows(data: Dict[str, Any], name: str, where: str) -> List[Any]:
    rows = data.get(name)
    if not isinstance(rows, list) or not rows:
        raise ModelError(f"{where}: {name} must be a list of one or more.")
    return rows


def read_table(path: Path) -> SimTable:
    """The table in a file. Raises :class:`ModelError` with what is wrong with it."""
    where = f"The cost table {path}"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} cannot be read ({error}).") from error
    if not isinstance(data, dict):
        raise ModelError(f"{where} must hold a JSON object.")
    samplers = _rows(data, "samplers", where) if "samplers" in data else list(SimTable.samplers)
    return SimTable(
        models=tuple(_model(row, f"{where}: models.{at}") for at, row in enumerate(_rows(data, "models", where))),
        samplers=tuple(_name(name, f"{where}: samplers.{at}") for at, name in enumerate(samplers)),
        jitter=_number(data, "jitter", MOST_JITTER, where, 0.0),
        batch=max(1, int(_number(data, "batch", MOST_AT_ONCE, where, 1))),
        batch_factor=_number(data, "batch_factor", 1.0, where, 1.0),
    )

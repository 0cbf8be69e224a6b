"""Has the engines that are started from now on find a stand-in of a GPU with room for one model at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

AT_START = """
from gpu_inference.engine import places
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.manifest import ModelFolder
from gpu_inference.memory import Room

on_gpu = set()
real = {name: getattr(OnnxBackend, name) for name in ("__init__", "close")}

def load(self, *given):
    real["__init__"](self, *given)
    on_gpu.add(self)

def leave(self):
    on_gpu.discard(self)
    return True

def wake(self):
    on_gpu.add(self)

def close(self):
    on_gpu.discard(self)
    real["close"](self)

def room():
    return Room(10_000.0, 6_000.0 - 5_000.0 * len(on_gpu))

OnnxBackend.__init__, OnnxBackend.close, OnnxBackend.park, OnnxBackend.wake = load, close, leave, wake
OnnxBackend.parks = True
ModelFolder.size_bytes = lambda self: 3_000 * 2**20
places.host_room = lambda _limit: lambda _reading: Room(64_000.0, 60_000.0)
places.place_of = lambda _backend, _limit: lambda _folder: places.Place("gpu", room, lambda: 5_000.0 * len(on_gpu))
"""


def use_parking(folder: Path, monkeypatch: Any) -> None:
    """The stand-in lies in ``folder``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(AT_START)
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{Path(__file__).parents[2]}")

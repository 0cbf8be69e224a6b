"""Has the processes that are started from now on find a TensorRT and a GPU, which are stand-ins (``tensorrt_fake.py``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MODULE = """
from tests.support.tensorrt_fake import FakeCudaRuntime, fake_tensorrt

runtime = FakeCudaRuntime()
globals().update(vars(fake_tensorrt("10.16.1", runtime)))
"""
AT_START = """
import gpu_inference.engine.backends.cudart as cudart

cudart.load_library = lambda: __import__("tensorrt").runtime
"""


def use_tensorrt(folder: Path, monkeypatch: Any) -> None:
    """The stand-ins lie in ``folder``."""
    folder.mkdir()
    (folder / "tensorrt.py").write_text(MODULE)
    (folder / "sitecustomize.py").write_text(AT_START)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).parents[2]}")

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_picture_leaves_nothing_in_the_home(tmp_path: Path) -> None:
    """ONNX Runtime keeps an id of the machine and what it means to report there, unless it is told not to."""
    words = ["-m", "gpu_inference", "render", "a red circle", "--steps", "1", "--size", "64x64", "-o", str(tmp_path / "one.png")]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, *words], env={**environment, "HOME": str(tmp_path)}, check=True, capture_output=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["one.png"]

"""What TensorRT's real bindings offer, read from its wheels: ``python -m tests.support.tensorrt_surface`` writes ``tensorrt_surface.json``.

The lean bindings are imported, which needs neither GPU nor driver; those with the builder do not load without the whole TensorRT, so
that the builder's names are looked for in their binary.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

RELEASES = ("10.16.1.11", "11.4.0.106")
RUNTIME_CLASSES = (
    "Runtime", "ICudaEngine", "IExecutionContext", "Refitter", "Logger", "TensorIOMode", "DataType", "ExecutionContextAllocationStrategy",
    "BuilderFlag", "MemoryPoolType", "IOptimizationProfile", "IProgressMonitor", "Weights",
)  # fmt: skip
BUILDER_NAMES = (
    "Builder", "create_network", "create_builder_config", "create_optimization_profile", "build_serialized_network", "OnnxParser",
    "parse_from_file", "num_errors", "get_error", "desc", "set_memory_pool_limit", "set_flag", "add_optimization_profile",
    "progress_monitor", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED", "EXPLICIT_BATCH",
    "IInt8EntropyCalibrator2", "int8_calibrator", "set_calibration_profile", "get_batch_size", "get_batch", "read_calibration_cache",
    "write_calibration_cache",
)  # fmt: skip
PLACE = Path(__file__).with_suffix(".json")
_DUMP = """
import json, sys, tensorrt_lean_bindings as trt
names = lambda kind: sorted(name for name in dir(kind) if not name.startswith("__"))
print(json.dumps({"version": trt.__version__, "classes": {n: names(getattr(trt, n)) for n in sys.argv[1:] if hasattr(trt, n)}}))
"""


def _download(folder: Path, package: str) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check", package, "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    wheel = next(iter(folder.glob(package.split("==")[0].replace("-", "_") + "-*.whl")))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "all")
    wheel.unlink()
    return folder / "all"


def read(release: str) -> dict[str, Any]:
    """The surface of one release."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for package in (f"tensorrt-lean-cu12-bindings=={release}", f"tensorrt-lean-cu12-libs=={release}", "nvidia-cuda-runtime-cu12"):
            root = _download(folder, package)
        libraries = f"{root / 'nvidia/cuda_runtime/lib'}:{root / 'tensorrt_lean_libs'}"
        found = subprocess.run(
            [sys.executable, "-c", _DUMP, *RUNTIME_CLASSES], check=True, capture_output=True, timeout=120, text=True,
            env={"PYTHONPATH": str(root), "LD_LIBRARY_PATH": libraries, "PATH": "/usr/bin"},
        )  # fmt: skip
        said: dict[str, Any] = json.loads(found.stdout)
        binary = (_download(folder, f"tensorrt-cu12-bindings=={release}") / "tensorrt_bindings" / "tensorrt.so").read_bytes()
        said["builder"] = [name for name in BUILDER_NAMES if re.search(rb"(?<![A-Za-z0-9_])%s(?![A-Za-z0-9_])" % name.encode(), binary)]
        return said


if __name__ == "__main__":
    PLACE.write_text(json.dumps({release: read(release) for release in RELEASES}, indent=1) + "\n", encoding="utf-8")
    print(PLACE)

"""The builder and the parser of the stand-in of TensorRT (``tensorrt_fake.py``)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx


def _carried(graph: Path) -> dict[str, str]:
    """The files of a graph that is not there any more once its engine is built."""
    if not graph.parent.name.startswith("fused-"):
        return {}
    return {each.name: base64.b64encode(each.read_bytes()).decode() for each in graph.parent.iterdir()}


def calibrated(config: Any, device: Any) -> bytes:
    """What a calibration leaves: which inputs came, how often, and the largest value of each."""
    ranges = config.int8_calibrator
    table = ranges.read_calibration_cache()
    if table is not None:
        return bytes(table)
    names, seen = list(config.calibration), dict[str, float]()
    batches = 0
    while (places := ranges.get_batch(names)) is not None:
        batches += 1
        for name, place in zip(names, places, strict=True):
            values = np.frombuffer(device.blocks[place], dtype=np.float32)
            assert values.size == int(np.prod(config.calibration[name][1])), f"{name} does not have the usual shape of the profile"
            seen[name] = max(seen.get(name, 0.0), float(np.abs(values).max()))
    assert batches, "nothing to calibrate with"
    table = json.dumps({"batches": batches, "ranges": seen}).encode()
    ranges.write_calibration_cache(memoryview(table))
    return table


def add_builder(trt: Any, major: int, device: Any) -> None:
    """The builder and the parser, whose plans :class:`Runtime` reads."""

    class Network:
        graph = ""

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
            self.shapes[name] = [low, usual, high]

    class Config:
        def __init__(self) -> None:
            self.profiles: list[Any] = []
            self.flags: list[Any] = []
            self.workspace = 0
            if major < 11:
                self.int8_calibrator: Any = None
                self.calibration: Any = None
            if major >= 10:
                self.progress_monitor: Any = None

        def set_memory_pool_limit(self, _pool: Any, size: int) -> None:
            self.workspace = size

        def set_calibration_profile(self, profile: Profile) -> bool:
            self.calibration = profile.shapes
            return True

        def set_flag(self, flag: Any) -> None:
            self.flags.append(flag)

        def add_optimization_profile(self, profile: Profile) -> int:
            self.profiles.append(profile.shapes)
            return len(self.profiles) - 1

    class Builder:
        def __init__(self, _logger: Any) -> None:
            self.typed = 0

        def create_network(self, flags: int) -> Network:
            assert flags in {8: {1 << 0}, 10: {1 << 0, 1 << 1}, 11: {1 << 1}}[major], "the flags of another release"
            self.typed = flags == 1 << 1
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> Any:
            monitor = getattr(config, "progress_monitor", None)
            if monitor is not None:
                monitor.phase_start("Building", None, 2)
                if not monitor.step_complete("Building", 0):
                    return None
                monitor.phase_finish("Building")
            model = onnx.load(network.graph, load_external_data=False)
            assert {each.name for each in model.graph.input} == set(config.profiles[0]), "a profile that lacks an input"
            assert all(node.domain == "" for node in model.graph.node), "operations that TensorRT does not know"
            assert not (self.typed and {0, 1} & set(config.flags)), "a strongly typed network takes no flag of precision"
            table = calibrated(config, device).decode() if 1 in config.flags else ""
            projected = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if tensor.dims}.get("text_projection.weight", 0)
            said = {
                "release": trt.__version__, "graph": network.graph, "profiles": config.profiles, "refittable": 3 in config.flags,
                "pooled": projected, "int8": table, "files": _carried(Path(network.graph)),
            }  # fmt: skip
            return memoryview(json.dumps(said).encode())

    class OnnxParser:
        def __init__(self, network: Network, _logger: Any) -> None:
            self._network = network
            self.num_errors = 0

        def parse_from_file(self, path: str) -> bool:
            try:
                onnx.checker.check_model(path)
            except Exception as error:
                self._said, self.num_errors = str(error), 1
                return False
            self._network.graph = path
            return True

        def get_error(self, _index: int) -> Any:
            return SimpleNamespace(desc=lambda: self._said)

    trt.Builder, trt.OnnxParser, trt.IOptimizationProfile = Builder, OnnxParser, Profile

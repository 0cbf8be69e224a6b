"""An imported model, and a machine with a stand-in of TensorRT."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from tests.support.sdxl_numpy import import_tiny
from tests.support.tensorrt_bench import Machine, machine_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A tiny SDXL, imported."""
    return load_model_folder(import_tiny(tmp_path_factory.mktemp("imported") / "model"))


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """It has release 10.16.1, or the one that the test is parametrised with."""
    return machine_of(getattr(request, "param", "10.16.1"), tmp_path, monkeypatch)

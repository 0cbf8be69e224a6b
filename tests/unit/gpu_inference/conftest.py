"""Models of random weights, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes next to no time."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose steps last some hundredths of a second, on whatever machine."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "slow", step_seconds=0.03, name="slow")


@pytest.fixture
def pipeline(tiny_model: Path) -> Pipeline:
    """The tiny model, loaded."""
    return Pipeline.load(load_model_folder(tiny_model), threads=1)

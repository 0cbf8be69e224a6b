"""Spare models of a real engine behind a real agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpu_inference.agent.engine_process import EngineProcess
from gpu_inference.agent.settings import Settings
from gpu_inference.engine import wire
from tests.support.fake_control_plane import FakeControlPlane
from tests.support.parking_machine import use_parking
from tests.support.sim_fleet import free_port

Make = Callable[..., Any]


def rendered(plane: FakeControlPlane, *models: str) -> None:
    for number, model in enumerate(models):
        plane.finished(plane.submit(f"{model}{number}", model=model, steps=2))


def test_going_back_to_a_spare_model_loads_nothing(plane: FakeControlPlane, agent_of: Make, tiny_model: Path, slow_model: Path) -> None:
    port = free_port()
    agent_of(tiny_model, slow_model, spare_models=1, http=f"127.0.0.1:{port}")
    rendered(plane, "tiny", "slow", "tiny", "slow")
    plane.wait(lambda: plane.beats[-1]["loaded_model"] == "slow")
    assert plane.beats[-1]["warm_models"] == ["tiny"]
    figures = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert "fleet_agent_model_loads_total 2.0" in figures, "four changes, two loads"


def test_without_spares_there_is_one(plane: FakeControlPlane, agent_of: Make, tiny_model: Path, slow_model: Path) -> None:
    agent_of(tiny_model, slow_model, spare_models=0)
    rendered(plane, "tiny", "slow")
    plane.wait(lambda: plane.beats[-1]["loaded_model"] == "slow")
    assert plane.beats[-1]["warm_models"] == []


def test_a_model_that_left_the_gpu_is_told_as_parked_and_woken(
    plane: FakeControlPlane, agent_of: Make, tiny_model: Path, slow_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_parking(tmp_path / "stand-in", monkeypatch)
    agent_of(tiny_model, slow_model, spare_models=1)
    order: list[tuple[str, list[str]]] = [("tiny", []), ("slow", ["tiny"]), ("tiny", ["slow"])]
    for number, (model, other) in enumerate(order):
        plane.finished(plane.submit(str(number), model=model, steps=2))
        plane.wait(lambda model=model: plane.beats[-1]["loaded_model"] == model)
        assert (plane.beats[-1]["warm_models"], plane.beats[-1]["parked_models"]) == ([], other)
    plane.wait(lambda: plane.leases[-1]["parked_models"] == ["slow"])
    assert [job.attempt for job in plane.jobs.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("what", "park", "left"),
    [
        (wire.ALL, True, (None, [], ["tiny", "slow"])),
        (wire.ALL, False, (None, [], [])),
        (wire.SPARES, True, ("slow", [], ["tiny"])),
        (wire.PARKED, False, ("slow", [], [])),
    ],
)
async def test_an_engine_that_is_told_to_let_go_says_what_is_left(
    tiny_model: Path, slow_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, park: bool, left: tuple[Any, ...]
) -> None:
    use_parking(tmp_path / "stand-in", monkeypatch)
    engine = EngineProcess(Settings(state_dir=tmp_path, models=(tiny_model, slow_model), spare_models=1, threads=1))
    try:
        await engine.ensure_started()
        for model in ("tiny", "slow"):
            await engine.load(model)
        assert there(engine) == ("slow", [], ["tiny"])
        engine.unload(what, park)
        await engine.rescan()
        assert there(engine) == left
        await engine.load("tiny")
        assert engine.loaded_model == "tiny"
    finally:
        await engine.kill()
    assert there(engine) == (None, [], [])


def there(engine: EngineProcess) -> tuple[str | None, list[str], list[str]]:
    return engine.loaded_model, engine.spare_models, engine.parked_models

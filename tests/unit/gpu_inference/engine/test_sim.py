"""The simulated engine: as the real one to its agent, in the time that its table says."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gpu_inference
from gpu_inference.agent.batch import Order
from gpu_inference.agent.engine_outcome import EngineFailure
from gpu_inference.agent.engine_process import EngineProcess, engine_command
from gpu_inference.agent.leases import capabilities
from gpu_inference.agent.settings import Settings, SettingsError, load_settings
from gpu_inference.engine.errors import ModelError
from gpu_inference.engine.sim import payload_digest, picture
from gpu_inference.engine.sim_table import read_table

ROOT = Path(gpu_inference.__file__).resolve().parent.parent
TABLE: dict[str, Any] = {
    "models": [
        {"name": "sim-a", "load_seconds": 0.2, "seconds_per_megapixel_step": 0.1, "size_bytes": 1000},
        {"name": "sim-b", "load_seconds": 0.3, "seconds_per_megapixel_step": 1},
    ],
    "samplers": ["euler", "ddim"],
}
PAYLOAD = {"prompt": "x", "width": 1000, "height": 1000, "steps": 3, "seed": 7, "model": "sim-a", "scheduler": "ddim"}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "table.json"
    path.write_text(json.dumps({**TABLE, **changes}))
    return path


def engine_of(folder: Path, factor: float = 1.0) -> EngineProcess:
    return EngineProcess(Settings(engine="sim", sim_table=write(folder), sim_factor=factor))


async def test_it_takes_the_time_that_its_table_says_and_tells_every_step(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    await engine.ensure_started()
    told: list[tuple[int, int, str]] = []
    begun = time.monotonic()
    output = await engine.render("a", dict(PAYLOAD), lambda *step: told.append(step), 20)
    assert 0.5 <= time.monotonic() - begun < 2
    assert told == [(0, 0, "loading"), *[(step, 3, "denoising") for step in range(3)], (3, 3, "saving")]
    assert engine.loaded_model == "sim-a"
    assert (output.result["seed"], output.result["model"], output.result["sampler"]) == (7, "sim-a", "ddim")
    image = Image.open(io.BytesIO(output.png))
    image.load()
    assert image.text["sim"] == f"seed=7 payload={payload_digest(PAYLOAD)}"
    known = capabilities(engine)
    assert known is not None
    assert (known.backend, known.samplers, [model.name for model in known.models]) == ("sim", ["euler", "ddim"], ["sim-a", "sim-b"])
    await engine.kill()


async def test_a_slower_node_loads_and_works_slower(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, factor=3)
    await engine.ensure_started()
    begun = time.monotonic()
    await engine.load("sim-b")
    assert time.monotonic() - begun >= 0.9
    assert engine.loaded_model == "sim-b"
    await engine.kill()


async def test_what_it_cannot_do_is_a_sentence(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    await engine.ensure_started()
    for change, kind in (({"model": "nope"}, "unknown_model"), ({"scheduler": "lms"}, "bad_payload"), ({"steps": 0}, "bad_payload")):
        with pytest.raises(EngineFailure) as caught:
            await engine.render("a", {**PAYLOAD, **change}, lambda *_: None, 20)
        assert (caught.value.kind, caught.value.retry) == (kind, False)
    with pytest.raises(EngineFailure, match="nope"):
        await engine.load("nope")
    await engine.kill()


async def test_a_cancel_ends_a_step_in_its_middle(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    await engine.ensure_started()
    payload = {**PAYLOAD, "model": "sim-b", "steps": 100}
    begun = time.monotonic()
    with pytest.raises(EngineFailure) as caught:
        await engine.render("a", payload, lambda step, steps, _: engine.cancel("a") if steps else None, 20)
    assert caught.value.kind == "cancelled"
    assert time.monotonic() - begun < 1.2
    assert (await engine.render("b", dict(PAYLOAD), lambda *_: None, 20)).png
    await engine.kill()


def test_outputs_differ_by_seed_and_payload() -> None:
    pictures = [picture(1, {"a": 1}), picture(2, {"a": 1}), picture(1, {"a": 2})]
    assert len({hashlib.sha256(each).digest() for each in pictures}) == 3
    assert picture(1, {"a": 1, "b": 2}) == picture(1, {"b": 2, "a": 1})


def test_it_says_what_it_is_and_needs_no_package_of_a_real_engine(tmp_path: Path) -> None:
    script = "import sys, gpu_inference.engine.sim\nprint([name for name in ('numpy', 'PIL', 'onnxruntime') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True).stdout == "[]\n"
    command = engine_command(Settings(engine="sim", sim_table=tmp_path / "none.json"))
    assert command[1:3] == ["-m", "gpu_inference.engine.sim"]


async def test_the_log_says_that_it_is_simulated(tmp_path: Path) -> None:
    engine = engine_of(tmp_path)
    await engine.ensure_started()
    await engine.render("a", dict(PAYLOAD), lambda *_: None, 20)
    await engine.kill()
    assert b"This engine is simulated" in engine._tail


async def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    engine = EngineProcess(Settings(engine="sim", sim_table=tmp_path / "none.json"))
    with pytest.raises(EngineFailure, match=r"cost table .*none.json cannot be read"):
        await engine.ensure_started()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"models": []}, "models must be a list of one or more"),
        ({"models": [3]}, "models.0 must be an object"),
        ({"models": [{"name": ""}]}, "models.0: name must be a name"),
        ({"models": [{"name": "a", "load_seconds": -1}]}, "load_seconds must be a number from 0 to 36000"),
        ({"models": [{"name": "a", "load_seconds": 1}]}, "seconds_per_megapixel_step must be a number"),
        ({"samplers": [1]}, "samplers.0 must be a name"),
        ({"jitter": 2}, "jitter must be a number from 0 to 0.9"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        read_table(write(tmp_path, **changes))


def test_it_is_off_by_default_and_chosen_by_name() -> None:
    assert load_settings({}).engine == "real"
    chosen = load_settings({"FLEET_AGENT_ENGINE": "SIM", "FLEET_AGENT_SIM_TABLE": "/a/table.json", "FLEET_AGENT_SIM_FACTOR": "2.5"})
    assert (chosen.engine, chosen.sim_table, chosen.sim_factor) == ("sim", Path("/a/table.json"), 2.5)
    with pytest.raises(SettingsError, match="must be one of real, sim, and 'tpu' was given"):
        load_settings({"FLEET_AGENT_ENGINE": "tpu"})
    with pytest.raises(SettingsError, match="FLEET_AGENT_SIM_TABLE must name"):
        load_settings({"FLEET_AGENT_ENGINE": "sim"})


async def test_a_batch_takes_the_time_that_its_table_says(tmp_path: Path) -> None:
    table = write(tmp_path, batch=3, batch_factor=0.5)
    engine = EngineProcess(Settings(engine="sim", sim_table=table))
    await engine.ensure_started()
    assert engine.batch_limit == 3
    await engine.load("sim-a")
    orders = [Order(f"j{seed}", {**PAYLOAD, "seed": seed}, lambda *_: None, 30) for seed in range(3)]
    begun = time.monotonic()
    await engine.render_batch(orders)
    assert 0.6 <= time.monotonic() - begun < 3, "three steps of 0.1 s, twice as long for three"
    results = [order.outcome.result() for order in orders]
    assert [(each.result["seed"], each.result["batch"]) for each in results] == [(0, 3), (1, 3), (2, 3)]
    assert len({each.png for each in results}) == 3
    await engine.kill()


async def test_one_of_a_batch_is_cancelled(tmp_path: Path) -> None:
    engine = EngineProcess(Settings(engine="sim", sim_table=write(tmp_path), batch=2))
    await engine.ensure_started()
    orders = [Order(f"j{seed}", {**PAYLOAD, "seed": seed, "steps": 8}, lambda *_: None, 30) for seed in range(2)]
    asyncio.get_running_loop().call_later(0.4, engine.cancel, "j0")
    begun = time.monotonic()
    orders[0].outcome.add_done_callback(lambda _: took.append(time.monotonic() - begun))
    took: list[float] = []
    await engine.render_batch(orders)
    with pytest.raises(EngineFailure, match="cancelled"):
        orders[0].outcome.result()
    assert took[0] < 0.8
    assert orders[1].outcome.result().result["seed"] == 1
    await engine.kill()


@pytest.mark.parametrize("change", [{"batch": 100}, {"batch_factor": 2}, {"batch": "many"}])
def test_a_table_of_batches_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(change))):
        read_table(write(tmp_path, **change))

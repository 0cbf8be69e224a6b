"""Engines in int8, and engines with LoRAs in their weights, on the stand-ins of TensorRT."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_inference.agent.settings import Settings
from gpu_inference.building import actions
from gpu_inference.building import build as build_module
from gpu_inference.building.build import calibrate
from gpu_inference.building.calibration import EVERY, STEPS
from gpu_inference.building.command import add_arguments
from gpu_inference.building.plan_folder import PlanFolder
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.errors import BackendError, LoraError, OutOfMemory
from gpu_inference.engine.loras import Applied, Lora
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from tests.support.sdxl_numpy import import_tiny
from tests.support.tensorrt_bench import Machine, ink, machine_of, prediction

PROMPTS = ["a red circle", "night"]


@pytest.fixture
def lora(tmp_path: Path) -> Lora:
    return ink(tmp_path)


def calibrated(machine: Machine, model: ModelFolder) -> None:
    calibrate(model, machine.store, machine.cuda(), PROMPTS, lambda _done, _all, what: machine.told.append(what))


@pytest.mark.parametrize("machine", ["8.5.2", "10.16.1"], indirect=True)
def test_the_unet_is_calibrated_with_what_it_is_given_in_pictures(machine: Machine, model: ModelFolder) -> None:
    calibrated(machine, model)
    [plan] = machine.store.folder.glob("*.plan")
    said = json.loads(plan.read_text())
    table = json.loads(said["int8"])
    assert table["batches"] == len(PROMPTS) * STEPS // EVERY
    assert set(table["ranges"]) == {"sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"}
    assert table["ranges"]["timestep"] > 900
    assert table["ranges"]["time_ids"] == 128
    assert said["refittable"] is False
    assert [each["precision"] for each in machine.store.all()] == ["int8"]
    assert machine.build(model) == 3, "the others are built as before"
    assert np.isfinite(prediction(machine.backend(model), model)).all()


def test_an_engine_in_half_precision_is_not_taken_for_it(machine: Machine, model: ModelFolder) -> None:
    assert machine.build(model) == 4
    calibrated(machine, model)
    assert sorted(each["precision"] for each in machine.store.all() if each["network"] == "unet") == ["fp16", "int8"]
    backend = machine.backend(model)
    assert not backend._plans["unet"].refittable
    next((machine.store.folder / "calibrations").iterdir()).unlink()
    assert machine.backend(model)._plans["unet"].refittable, "without the table it is as before"


def test_another_build_takes_the_table_and_makes_no_pictures(machine: Machine, model: ModelFolder) -> None:
    calibrated(machine, model)
    next(machine.store.folder.glob("*.plan")).unlink()
    machine.told.clear()
    assert machine.build(model) == 4
    assert "pictures to calibrate with" not in machine.told


def test_a_release_without_calibrators_says_so(model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_of("11.4.0", tmp_path, monkeypatch)
    with pytest.raises(BackendError, match="has no calibrators"):
        calibrated(machine, model)
    assert machine.build(model) == 4


def test_a_calibration_that_fails_changes_nothing(machine: Machine, model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.build(model)
    ready = build_module.build_plan

    def fails(*given: Any) -> bytes:
        ready(*given)  # the table is written
        raise BackendError("TensorRT did not build an engine of unet; its log tells why.")

    monkeypatch.setattr(build_module, "build_plan", fails)
    with pytest.raises(BackendError):
        calibrated(machine, model)
    assert machine.backend(model)._plans["unet"].refittable, "the engine that there was is in use as before"
    assert list((machine.store.folder / "calibrations").iterdir()) == []
    monkeypatch.setattr(build_module, "build_plan", ready)
    calibrated(machine, model)
    [table] = (machine.store.folder / "calibrations").iterdir()
    before = table.read_bytes()
    monkeypatch.setattr(build_module, "build_plan", fails)
    with pytest.raises(BackendError):
        calibrated(machine, model)
    assert table.read_bytes() == before
    assert not machine.backend(model)._plans["unet"].refittable


def test_a_model_without_guidance_is_calibrated_with_both_branches(machine: Machine, model: ModelFolder, tmp_path: Path) -> None:
    shutil.copytree(model.path, tmp_path / "turbo")
    manifest = tmp_path / "turbo" / "manifest.json"
    manifest.write_text(json.dumps(dict(json.loads(manifest.read_text()), default_guidance=1.0)))
    calibrated(machine, load_model_folder(tmp_path / "turbo"))


def test_loras_in_the_weights_where_none_can_be_put_in_later(machine: Machine, model: ModelFolder, lora: Lora) -> None:
    calibrated(machine, model)
    machine.build(model)
    backend, other = machine.backend(model), OnnxBackend(model, 1)
    plain = prediction(backend, model)
    wanted = [Applied(lora, 0.8)]
    with pytest.raises(LoraError, match=r"'fleet engines build NODE_ID tiny --lora ink:0\.8', or") as caught:
        backend.adapt(wanted)
    assert "on the node with 'fleet-worker engines build tiny --lora ink:0.8'." in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(prediction(backend, model), plain)

    assert machine.build(model, loras=wanted) == 1, "the UNet; the text encoder that it changes too is refitted"
    assert machine.build(model, loras=wanted) == 0
    assert not list(machine.store.folder.glob("fused-*"))
    backend.adapt(wanted)
    other.adapt(wanted)
    mine, theirs = prediction(backend, model), prediction(other, model)
    assert np.abs(mine - plain).max() > 0.01
    assert np.abs(mine - theirs).max() < 0.02 * np.abs(theirs).max()
    with pytest.raises(LoraError, match=r"--lora ink:1\.234568"):
        backend.adapt([Applied(lora, 1.2345678)])
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)
    backend.close()
    assert machine.runtime.used == 0


def test_a_switch_without_room_leaves_none_on_memory_that_is_not_theirs(
    machine: Machine, model: ModelFolder, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(machine, model)
    machine.build(model, loras=[Applied(lora, 0.8)])
    machine.build(model)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    share = backend._share_arena

    def no_room() -> None:
        backend._cuda.free(backend._arena)
        backend._arena = backend._room = 0
        raise OutOfMemory("The device ran out of memory.")

    monkeypatch.setattr(backend, "_share_arena", no_room)
    with pytest.raises(OutOfMemory):
        backend.adapt([Applied(lora, 0.8)])
    monkeypatch.setattr(backend, "_share_arena", share)
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)
    backend.adapt([Applied(lora, 0.8)])
    assert np.abs(prediction(backend, model) - plain).max() > 0.01
    backend.close()
    assert machine.runtime.used == 0


def test_an_engine_of_elsewhere_that_takes_no_lora_says_so(machine: Machine, model: ModelFolder, lora: Lora) -> None:
    machine.build(model)
    for path in machine.store.folder.glob("*.plan"):
        path.write_text(json.dumps(dict(json.loads(path.read_text()), refittable=False)))
    with pytest.raises(LoraError, match="built without refitting"):
        machine.backend(model).adapt([Applied(lora, 1.0)])


def test_two_that_bring_the_same_engine_do_not_mix_it(machine: Machine) -> None:
    path = machine.store.folder / f"{'0' * 32}.plan"
    first, second = machine.store.room_for(path, 5), machine.store.room_for(path, 10)
    second.write_bytes(b"F" * 10)
    first.write_bytes(b"BBBBB")
    machine.store.adopt(path, {"model": "m"}, second)
    assert path.read_bytes() == b"F" * 10
    machine.store.adopt(path, {"model": "m"}, first)
    assert path.read_bytes() == b"BBBBB"


def test_they_are_under_the_limit_like_all_others(machine: Machine, model: ModelFolder, lora: Lora) -> None:
    calibrated(machine, model)
    machine.build(model)
    sizes = {path: path.stat().st_size for path in machine.store.folder.glob("*.plan")}
    machine.build(model, loras=[Applied(lora, 1.0)])
    fused = {path: path.stat().st_size for path in machine.store.folder.glob("*.plan") if path not in sizes}
    for path in fused:
        path.unlink()
    machine.store.limit = sum(fused.values()) + sum(sizes.values()) - 1
    machine.build(model, loras=[Applied(lora, 1.0)])
    assert all(path.exists() for path in fused), "what is built is not what makes room"
    assert sum(path.stat().st_size for path in machine.store.folder.glob("*.plan")) <= machine.store.limit


def told(words: list[str], folder: Path) -> str:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return actions.act(parser.parse_args(words), Settings(state_dir=folder, models=(folder / "models",)))


def test_the_command(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lora: Lora
) -> None:
    monkeypatch.setattr(actions, "Cuda", machine.cuda)
    monkeypatch.setenv("FLEET_ENGINE_PLANS", str(tmp_path / "plans"))
    models = tmp_path / "models"
    models.mkdir()
    import_tiny(models / "tiny")
    (models / "loras").mkdir()
    lora.file.path.rename(models / "loras" / "ink.safetensors")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))

    assert told(["build", "tiny", "--lora", "ink:0.5"], tmp_path) == ""
    assert "tiny: 4 engines built" in capsys.readouterr().out
    assert told(["calibrate", "tiny", "--prompts", str(prompts)], tmp_path) == ""
    assert "computes in int8 from now on" in capsys.readouterr().out
    assert told(["wanted", "tiny"], tmp_path) == ""
    said: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["said"]["precision"] for each in said if each["said"]["network"] == "unet"] == ["int8"]
    assert told(["wanted", "tiny", "--lora=ink:0.5"], tmp_path) == ""
    fused = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["there"] for each in fused if each["said"]["network"] == "unet"] == [False], "it is another engine, with the LoRA in it"
    assert [each["key"] for each in fused if each["said"]["network"] != "unet"] == [
        each["key"] for each in said if each["said"]["network"] != "unet"
    ]

    (tmp_path / "plans" / "fused-left").mkdir()
    with PlanFolder(tmp_path / "plans").alone():
        assert not (tmp_path / "plans" / "fused-left").exists(), "what a build that was killed has left"
        assert "are being built" in told(["build", "tiny"], tmp_path)
    assert told(["build", "tiny", "--lora", "oil"], tmp_path) == "There is no LoRA 'oil' of tiny here; there are: ink."
    assert told(["build", "tiny", "--lora", "ink:much"], tmp_path) == "The strength of the LoRA ink must be a number, and 'much' was given."
    assert "no prompts" in told(["calibrate", "tiny", "--prompts", "/dev/null"], tmp_path)
    assert told(["calibrate", "tiny", "--prompts", str(tmp_path / "no")], tmp_path).endswith("(No such file or directory).")
    assert told(["build", "nope"], tmp_path) == "There is no model 'nope' here; there are: tiny."

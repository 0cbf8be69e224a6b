"""A model in engines of TensorRT that leaves the device and comes back, on a stand-in."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_inference.building.build import calibrate
from gpu_inference.engine.backends import tensorrt as tensorrt_backend
from gpu_inference.engine.backends.mapped import map_file, read_in
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.errors import NoRoom
from gpu_inference.engine.loras import Applied, Lora
from gpu_inference.engine.manifest import ModelFolder
from tests.support.tensorrt_bench import Machine, ink, prediction


@pytest.fixture
def lora(tmp_path: Path) -> Lora:
    return ink(tmp_path)


def parked_and_woken(backend: Any) -> None:
    assert backend.park()
    backend.wake()


@pytest.mark.parametrize("machine", ["8.5.2", "10.16.1", "11.4.0"], indirect=True)
def test_it_frees_the_device_and_comes_back_without_its_files(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    assert backend.park()
    assert not machine.runtime.blocks
    for path in machine.store.folder.glob("*.plan"):
        path.unlink()
    backend.wake()
    np.testing.assert_array_equal(prediction(backend, model), plain)
    assert machine.runtime.given == ["mmap"] * 8
    backend.close()
    assert not machine.runtime.blocks


def test_every_page_of_what_is_kept_is_read(machine: Machine, model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.build(model)
    backend, read = machine.backend(model), list[int]()
    monkeypatch.setattr(tensorrt_backend, "read_in", lambda mapped: read.append(len(mapped)))
    assert backend.park()
    assert sorted(read) == sorted(path.stat().st_size for path in machine.store.folder.glob("*.plan"))


def test_a_mapped_file_is_in_memory_when_it_was_read_in(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (3 * mmap.PAGESIZE + 1))
    mapped = map_file(path)
    assert mapped is not None

    def resident() -> int:
        """KiB of the mapping that this process has."""
        lines = Path("/proc/self/smaps").read_text().splitlines()
        at = next(number for number, line in enumerate(lines) if line.endswith(str(path)))
        return int(next(line for line in lines[at:] if line.startswith("Rss:")).split()[1])

    assert resident() == 0
    read_in(mapped)
    assert resident() == 4 * mmap.PAGESIZE // 1024
    path.write_bytes(b"")
    assert map_file(path) is None


def test_one_whose_file_is_gone_is_not_parked_and_nothing_changes(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    max(machine.store.folder.glob("*.plan")).unlink()
    assert not backend.park()
    np.testing.assert_array_equal(prediction(backend, model), plain)


def test_room_is_looked_for_before_it_is_woken(machine: Machine, model: ModelFolder) -> None:
    machine.build(model)
    backend = machine.backend(model)
    assert backend.park()
    room, machine.runtime.room = machine.runtime.room, 64 * 2**20
    with pytest.raises(NoRoom, match=r"The model 'tiny' needs \d+ MiB of the device's memory, of which 64 MiB are free."):
        backend.wake()
    machine.runtime.room = room
    backend.wake()
    assert np.isfinite(prediction(backend, model)).all()
    assert backend.park()
    files = list(backend._parked.values())
    backend.close()
    assert all(file.closed for file in files)


def test_what_was_put_in_by_refitting_is_put_in_again(machine: Machine, model: ModelFolder, lora: Lora) -> None:
    machine.build(model)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    wanted = [Applied(lora, 0.8)]
    backend.adapt(wanted)
    changed = prediction(backend, model)
    assert np.abs(changed - plain).max() > 0.01
    parked_and_woken(backend)
    np.testing.assert_array_equal(prediction(backend, model), plain)
    backend.adapt(wanted)
    np.testing.assert_array_equal(prediction(backend, model), changed)
    parked_and_woken(backend)
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)


@pytest.mark.parametrize("times", [1, 2])
def test_an_engine_that_has_them_in_its_weights_comes_back_as_that(machine: Machine, model: ModelFolder, lora: Lora, times: int) -> None:
    wanted = [Applied(lora, 0.8)]
    calibrate(model, machine.store, machine.cuda(), ["night"], lambda *_: None)
    machine.build(model)
    machine.build(model, loras=wanted)
    backend, other = machine.backend(model), OnnxBackend(model, 1)
    plain = prediction(backend, model)
    backend.adapt(wanted)
    changed, fused = prediction(backend, model), backend._paths["unet"]
    other.adapt(wanted)
    theirs = prediction(other, model)
    assert np.abs(changed - theirs).max() < 0.02 * np.abs(theirs).max()
    for _ in range(times):
        parked_and_woken(backend)
    read = len(machine.runtime.given)
    backend.adapt(wanted)
    assert (backend._paths["unet"], len(machine.runtime.given)) == (fused, read), "the same engine, which is not read again"
    np.testing.assert_array_equal(prediction(backend, model), changed)
    for _ in range(times):
        parked_and_woken(backend)
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)
    parked_and_woken(backend)
    np.testing.assert_array_equal(prediction(backend, model), plain)
    backend.close()
    assert machine.runtime.used == 0


def test_a_network_that_is_lacking_after_a_change_that_failed_is_found_again(
    machine: Machine, model: ModelFolder, lora: Lora, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [Applied(lora, 0.8)]
    calibrate(model, machine.store, machine.cuda(), ["night"], lambda *_: None)
    machine.build(model)
    machine.build(model, loras=wanted)
    backend = machine.backend(model)
    plain = prediction(backend, model)
    plan = tensorrt_backend.Plan

    def fails(*_given: Any) -> Any:
        raise NoRoom("There is none.")

    monkeypatch.setattr(tensorrt_backend, "Plan", fails)
    with pytest.raises(NoRoom):
        backend.adapt(wanted)
    monkeypatch.setattr(tensorrt_backend, "Plan", plan)
    assert "unet" not in backend._plans
    parked_and_woken(backend)
    backend.adapt([])
    np.testing.assert_array_equal(prediction(backend, model), plain)


def test_the_processor_s_runtime_parks_nothing(model: ModelFolder) -> None:
    backend = OnnxBackend(model, 1)
    plain = prediction(backend, model)
    assert not backend.park()
    np.testing.assert_array_equal(prediction(backend, model), plain)

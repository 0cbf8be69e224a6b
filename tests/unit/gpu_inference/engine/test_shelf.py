"""What is kept loaded, and what is let go for what."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gpu_inference import free_memory
from gpu_inference.engine import backends
from gpu_inference.engine.errors import NoRoom
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.places import Place, place_of
from gpu_inference.engine.shelf import Shelf
from gpu_inference.memory import Room
from tests.support.tiny_model import make_tiny_model

TOTAL, EACH = 10_000.0, 2_000.0


@dataclass
class Machine:
    """A machine of 10,000 MiB on which each model takes 2,000; 400 stay free, and others use ``others``."""

    others: float = 0.0
    loads: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    def load(self, folder: ModelFolder) -> Pipeline:
        pipeline = Pipeline.load(folder, 1)
        close = pipeline.close
        pipeline.close = lambda: (close(), self.held.discard(folder.name))[0]  # type: ignore[method-assign]
        self.loads.append(folder.name)
        self.held.add(folder.name)
        return pipeline

    def taken(self) -> float:
        return EACH * len(self.held)

    def room(self) -> Room:
        return Room(TOTAL, TOTAL - self.others - self.taken())

    def shelf(self, spares: int) -> Shelf:
        return Shelf(self.load, spares, lambda _: Place("host", self.room, self.taken))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[ModelFolder]:
    place = tmp_path_factory.mktemp("models")
    return [load_model_folder(make_tiny_model(place / name, name=name)) for name in "abcd"]


def test_without_spares_the_one_before_is_let_go(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(0)
    first = shelf.get(folders[0])
    assert shelf.get(folders[0]) is first
    shelf.get(folders[1])
    assert machine.held == {"b"}
    assert shelf.current is not None
    assert (shelf.current.folder.name, shelf.spare()) == ("b", [])


def test_spares_are_kept_and_the_least_recently_used_goes(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(2)
    a, b, c, d = folders
    for folder in (a, b, c, a, d):
        shelf.get(folder)
    assert machine.loads == ["a", "b", "c", "d"], "going back to a spare one loads nothing"
    assert machine.held == {"a", "c", "d"}
    assert shelf.spare() == ["c", "a"]


def test_spares_go_where_memory_wants_it(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(3)
    a, b, c, _ = folders
    for folder in (a, b, c):
        shelf.get(folder)
    shelf.clear()
    shelf.get(a)
    assert shelf.needs(a) == pytest.approx(EACH + 6), "it was measured"
    machine.others = 4_500
    shelf.get(b)
    assert machine.held == {"a", "b"}
    shelf.get(c)
    assert machine.held == {"b", "c"}, "1,500 were free beside two"


def test_what_fits_beside_nothing_is_refused_and_nothing_is_let_go_for_it(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(1)
    a, b, *_ = folders
    shelf.get(a)
    shelf.get(b)
    shelf.drop("b")
    machine.others = 8_000
    with pytest.raises(NoRoom, match=r"The model 'b' needs about 2\.0 GiB of memory, and 1\.6 GiB can be had here\."):
        shelf.get(b)
    assert machine.held == {"a"}


def test_all_are_let_go(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(3)
    for folder in folders:
        shelf.get(folder)
    shelf.keep({folder.name: folder for folder in folders[:2]})
    assert machine.held == {"a", "b"}
    shelf.clear()
    assert not machine.held
    assert shelf.current is None


def test_a_model_takes_from_the_memory_where_it_is_computed(folders: list[ModelFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "gpu_present", lambda: True)
    monkeypatch.setattr(free_memory, "gpu_room", lambda: Room(80_000, 100))
    monkeypatch.setattr(free_memory, "room", lambda: Room(16_000, 9_000))
    monkeypatch.setattr(free_memory, "held", lambda: 300.0)
    on_cpu, on_gpu = place_of("auto", None)(folders[0]), place_of("tensorrt", None)(folders[0])
    assert (on_cpu.name, on_cpu.room(), on_cpu.taken()) == ("host", Room(16_000, 9_000), 300), "the built-in model is on the CPU"
    assert (on_gpu.name, on_gpu.room(), on_gpu.taken()) == ("gpu", Room(80_000, 100), -100)
    Shelf(lambda folder: Pipeline.load(folder, 1), 0, place_of("auto", None)).get(folders[0])
    monkeypatch.setattr(free_memory, "gpu_room", lambda: Room(80_000, 70_000))
    assert place_of("tensorrt", 4_000)(folders[0]).room() == Room(4_000, 4_000), "what is held of the machine's memory is not the GPU's"
    monkeypatch.setattr(free_memory, "gpu_room", lambda: None)
    shared = place_of("tensorrt", 4_000)(folders[0])
    assert (shared.name, shared.room(), shared.taken()) == ("host", Room(4_000, 3_700), -9_000), "as on a Jetson"


def test_what_is_in_another_memory_is_not_let_go_for_room(folders: list[ModelFolder]) -> None:
    machine, gpu = Machine(), Machine()
    a, b, c, _ = folders

    def load(folder: ModelFolder) -> Pipeline:
        return (gpu if folder == a else machine).load(folder)

    shelf = Shelf(load, 3, lambda folder: Place("gpu", gpu.room, gpu.taken) if folder == a else Place("host", machine.room, machine.taken))
    shelf.get(a)
    shelf.get(b)
    machine.others = 7_700
    shelf.get(c)
    assert (gpu.held, machine.held) == ({"a"}, {"c"})
    machine.others = 8_500
    shelf.drop("c")
    with pytest.raises(NoRoom, match=r"and 1\.1 GiB can be had here"):
        shelf.get(b)

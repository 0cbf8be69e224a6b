"""What leaves a GPU's own memory waits in the machine's, and what comes of it there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gpu_inference import free_memory
from gpu_inference.engine import wire
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BackendError, NoRoom
from gpu_inference.engine.manifest import ModelFolder, load_model_folder
from gpu_inference.engine.places import Place, host_room
from gpu_inference.engine.shelf import Shelf
from gpu_inference.memory import MIB, Room, within
from tests.support.tiny_model import make_tiny_model

ON_GPU, FILES = 2_000.0, 1_500.0


@dataclass
class Machine:
    """A GPU of 5,000 MiB, where a model takes 2,000, beside 10,000 MiB of memory, where its files take 1,500; ``others`` use some of each.

    200 of the GPU's stay free, 400 of the machine's. The models in ``on_host`` are computed on the processor and take their 2,000 there.
    """

    gpu_others: float = 0.0
    others: float = 0.0
    limit: float | None = None
    parks: bool = True
    wakes: bool = True
    on_host: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    where: dict[str, str] = field(default_factory=dict)

    def at(self, where: str) -> set[str]:
        return {name for name, at in self.where.items() if at == where}

    def gpu_room(self) -> Room:
        return Room(5_000, 5_000 - self.gpu_others - ON_GPU * len(self.at("gpu")))

    def host_room(self, reading: float = 0.0) -> Room:
        held = FILES * len(self.at("parked")) + ON_GPU * len(self.at("host"))
        return within(Room(10_000, 10_000 - self.others - held), self.limit, held + reading)

    def place(self, folder: ModelFolder) -> Place:
        if folder.name in self.on_host:
            return Place("host", self.host_room, lambda: -self.host_room().available)
        return Place("gpu", self.gpu_room, lambda: -self.gpu_room().available)

    def load(self, folder: ModelFolder) -> Any:
        return Model(self, folder)

    def shelf(self, spares: int) -> Shelf:
        return Shelf(self.load, spares, self.place, self.host_room)


class Model:
    """A pipeline and its backend in one."""

    def __init__(self, machine: Machine, folder: ModelFolder) -> None:
        self.machine, self.folder, self.backend = machine, folder, self
        self._go("load", self.machine.place(folder).name)
        assert machine.gpu_room().available >= 0, "the GPU is too small for what is on it"

    def _go(self, what: str, where: str) -> None:
        self.machine.told.append(f"{what} {self.folder.name}")
        self.machine.where[self.folder.name] = where

    @property
    def parks(self) -> bool:
        return self.machine.parks

    def park(self) -> bool:
        assert self.machine.where[self.folder.name] == "gpu", "only what is there can be parked"
        self._go("park", "parked")
        return True

    def wake(self) -> None:
        assert self.machine.where[self.folder.name] == "parked"
        if not self.machine.wakes:
            raise BackendError("It does not wake.")
        self._go("wake", "gpu")
        assert self.machine.gpu_room().available >= 0, "the GPU is too small for what is on it"

    def relieve(self) -> None:
        self.machine.told.append(f"relieve {self.folder.name}")

    def close(self) -> None:
        self.machine.told.append(f"close {self.folder.name}")
        del self.machine.where[self.folder.name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[ModelFolder]:
    place = tmp_path_factory.mktemp("models")
    return [load_model_folder(make_tiny_model(place / name, name=name)) for name in "abcd"]


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelFolder, "size_bytes", lambda _self: int(FILES * MIB))


def names(shelf: Shelf) -> tuple[str | None, list[str], list[str]]:
    return (shelf.current.folder.name if shelf.current else None), shelf.spare(), shelf.parked()


def test_two_models_in_turn_on_a_gpu_with_room_for_one_are_loaded_once(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(1)
    a, b, *_ = folders
    first = shelf.get(a)
    shelf.get(b)
    assert names(shelf) == ("b", [], ["a"])
    assert not shelf.has(a), "it has to be woken"
    assert shelf.get(a) is first
    assert names(shelf) == ("a", [], ["b"])
    assert shelf.has(a)
    shelf.get(b)
    assert machine.told == ["load a", "park a", "load b", "park b", "wake a", "park a", "wake b"]
    assert shelf.needs(a) == pytest.approx(ON_GPU + 6), "a model takes what loading it took"


def test_parked_ones_are_among_the_spares_and_that_not_used_for_longest_goes(folders: list[ModelFolder]) -> None:
    a, b, c, d = folders
    for spares, held in ((0, {"d"}), (1, {"c", "d"}), (2, {"a", "c", "d"})):
        machine = Machine()
        shelf = machine.shelf(spares)
        for folder in (a, b, c, a, c, d):
            shelf.get(folder)
            current, spare, parked = names(shelf)
            assert current == folder.name
            assert len(spare) + len(parked) <= spares
        assert set(machine.where) == held
        assert len(machine.at("gpu")) == min(2, spares + 1)
    assert names(shelf) == ("d", ["c"], ["a"])


def test_without_room_in_the_machine_s_memory_it_is_let_go(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500, others=10_000 - 400 - FILES + 1)
    shelf = machine.shelf(1)
    a, b, *_ = folders
    shelf.get(a)
    shelf.get(b)
    assert machine.told == ["load a", "close a", "load b"]
    machine.others -= 1
    shelf.get(a)
    assert names(shelf) == ("a", [], ["b"])


def test_what_its_backend_cannot_park_is_let_go(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500, parks=False)
    shelf = machine.shelf(3)
    for folder in folders[:2]:
        shelf.get(folder)
    assert names(shelf) == ("b", [], [])
    assert machine.told == ["load a", "close a", "load b"]


def test_nobody_goes_for_one_that_cannot_be_parked(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(3)
    for folder in folders[:2]:
        shelf.get(folder)
    machine.parks, machine.others = False, machine.others + machine.host_room().available - 1_000
    shelf.get(folders[2])
    assert "close a" not in machine.told


def test_the_limit_of_the_engine_is_one_for_what_it_parks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "room", lambda: Room(64_000, 60_000))
    monkeypatch.setattr(free_memory, "held", lambda: 1_000.0)
    assert host_room(4_000)(0) == Room(4_000, 3_000)
    assert host_room(4_000)(500) == Room(4_000, 2_500)
    assert host_room(None)(500) == Room(64_000, 60_000)


def test_what_is_read_for_a_model_counts_where_there_is_a_limit(folders: list[ModelFolder]) -> None:
    a, b, *_ = folders
    for limit, parked in ((2 * FILES + 255, []), (2 * FILES + 256, ["a"])):
        machine = Machine(gpu_others=1_500, limit=limit)
        shelf = machine.shelf(1)
        shelf.get(a)
        shelf.get(b)
        assert names(shelf) == ("b", [], parked)
    shelf.get(a)
    assert names(shelf) == ("a", [], ["b"]), "for one that is woken nothing is read"


def test_parked_ones_go_before_a_load_that_the_limit_would_not_bear(folders: list[ModelFolder]) -> None:
    machine = Machine(limit=3 * FILES)
    shelf = machine.shelf(3)
    a, b, c, _ = folders
    for folder in (a, b, c):
        shelf.get(folder)
    assert names(shelf) == ("c", ["b"], ["a"])
    shelf.drop("b")
    machine.limit = 2 * FILES + 255
    shelf.get(b)
    assert names(shelf) == ("b", ["c"], [])


def test_where_the_machine_s_memory_is_small_the_one_parked_first_goes_for_the_next(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500, others=10_000 - 400 - FILES - 100)
    shelf = machine.shelf(3)
    a, b, c, _ = folders
    for folder in (a, b, c):
        shelf.get(folder)
    assert names(shelf) == ("c", [], ["b"])
    machine.told.clear()
    shelf.get(b)
    assert machine.told == ["close c", "wake b"], "the one that is to be woken does not go for the one that it replaces"


def test_parked_ones_go_before_a_model_of_the_processor_lacks_memory(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500, on_host={"c", "d"})
    shelf = machine.shelf(5)
    a, b, c, d = folders
    shelf.get(c)
    for folder in (a, b, d, a):
        shelf.get(folder)
    shelf.drop("d")
    assert names(shelf) == ("a", ["c"], ["b"])
    machine.others = 10_000 - 2 * ON_GPU - FILES - 400
    machine.told.clear()
    shelf.get(d)
    assert machine.told == ["close b", "load d"], "the spare one on the processor stays"
    assert names(shelf) == ("d", ["c", "a"], [])
    shelf.drop("d")
    machine.others = 10_000 - ON_GPU - 400
    with pytest.raises(NoRoom, match=r"The model 'd' needs about 2\.0 GiB of memory, and 2\.0 GiB can be had here\."):
        shelf.get(d)
    assert set(machine.where) == {"a", "c"}


def test_one_of_the_processor_is_let_go_as_before(folders: list[ModelFolder]) -> None:
    machine = Machine(others=10_000 - ON_GPU - 2_000, on_host={"a", "b"})
    shelf = machine.shelf(1)
    shelf.get(folders[0])
    shelf.get(folders[1])
    assert machine.told == ["load a", "close a", "load b"]


def test_where_the_machine_s_memory_is_short_the_one_that_is_woken_is_not_among_those_that_go(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(2)
    a, b, c, _ = folders
    for folder in (a, b, c):
        shelf.get(folder)
    shelf.drop("c")
    machine.others = 10_000 - 2 * FILES - 399
    machine.told.clear()
    shelf.get(a)
    assert machine.told == ["close b", "wake a"]


def test_where_there_is_no_room_to_wake_it_stays_parked(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(1)
    a, b, *_ = folders
    shelf.get(a)
    shelf.get(b)
    machine.gpu_others = 3_000
    with pytest.raises(NoRoom):
        shelf.get(a)
    assert names(shelf) == ("b", [], ["a"])


def test_one_that_does_not_wake_is_let_go_and_loaded_the_next_time(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500, wakes=False)
    shelf = machine.shelf(1)
    a, b, *_ = folders
    shelf.get(a)
    shelf.get(b)
    with pytest.raises(BackendError, match="It does not wake"):
        shelf.get(a)
    assert names(shelf) == (None, [], ["b"])
    shelf.get(a)
    assert machine.told[-2:] == ["close a", "load a"]


def test_parked_ones_go_with_their_folders(folders: list[ModelFolder]) -> None:
    a, _, c, d = folders
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(3)
    for folder in folders:
        shelf.get(folder)
    assert names(shelf) == ("d", [], ["a", "b", "c"])
    shelf.keep({"a": a, "b": c, "d": d})
    assert names(shelf) == ("d", [], ["a"])
    shelf.drop("a")
    assert set(machine.where) == {"d"}
    shelf.get(a)
    shelf.clear()
    assert machine.where == {}
    assert names(shelf) == (None, [], [])


@pytest.mark.parametrize(
    ("what", "park", "told", "left"),
    [
        (wire.SPARES, True, ["park b", "relieve c"], ("c", [], ["a", "b"])),
        (wire.SPARES, False, ["close b", "relieve c"], ("c", [], ["a"])),
        (wire.ALL, True, ["park b", "park c"], (None, [], ["a", "b", "c"])),
        (wire.ALL, False, ["close a", "close b", "close c"], (None, [], [])),
        (wire.PARKED, False, ["close a"], ("c", ["b"], [])),
        (wire.PARKED, True, ["close a"], ("c", ["b"], [])),
    ],
)
def test_what_goes_while_nothing_is_at_work(
    folders: list[ModelFolder], what: str, park: bool, told: list[str], left: tuple[str | None, list[str], list[str]]
) -> None:
    machine = Machine()
    shelf = machine.shelf(2)
    catalogue = Catalogue([folder.path for folder in folders], machine.load, shelf=shelf)
    for name in "abc":
        catalogue.pipeline(name)
    assert (catalogue.loaded, catalogue.spare, catalogue.parked) == ("c", ["b"], ["a"])
    machine.told.clear()
    catalogue.close(what, park)
    assert machine.told == told
    assert (catalogue.loaded, catalogue.spare, catalogue.parked) == left


def test_the_one_in_use_comes_back_when_it_was_parked_too(folders: list[ModelFolder]) -> None:
    machine = Machine()
    shelf = machine.shelf(0)
    first = shelf.get(folders[0])
    shelf.leave("a")
    assert names(shelf) == (None, [], ["a"])
    assert shelf.get(folders[0]) is first
    shelf.leave("a")
    shelf.get(folders[1])
    assert machine.told == ["load a", "park a", "wake a", "park a", "close a", "load b"], "no spare one may stay"


def test_a_model_that_is_there_keeps_no_parked_one_where_memory_is_short(folders: list[ModelFolder]) -> None:
    machine = Machine(gpu_others=1_500)
    shelf = machine.shelf(3)
    for folder in folders[:2]:
        shelf.get(folder)
    machine.others += machine.host_room().available - 399
    shelf.get(folders[1])
    assert names(shelf) == ("b", [], [])
    assert machine.told == ["load a", "park a", "load b", "close a"]

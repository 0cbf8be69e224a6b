"""The arithmetic of memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from gpu_inference import free_memory
from gpu_inference.memory import Room, fits, floor, is_short, needed, of_group, said, why_too_much, within

ORIN = Room(62_000, 40_000)


def test_what_a_model_needs() -> None:
    assert needed(6.5 * 2**30, 1024) == pytest.approx(6.5 * 1024 * 1.5 + 1536)
    assert needed(6.5 * 2**30, 1024, measured=7000) == 7000 + 1536
    assert needed(8 * 2**20, 128) == pytest.approx(12 + 24)


@pytest.mark.parametrize(("total", "kept"), [(62_000, 2480), (8_000, 320), (4_000, 256), (512, 128), (0, 0)])
def test_what_stays_free(total: float, kept: float) -> None:
    assert floor(total) == pytest.approx(kept)


def test_whether_it_fits() -> None:
    assert fits(30_000, ORIN)
    assert not fits(38_000, ORIN)
    assert fits(38_000, ORIN, given_back=1_000)


def test_a_limit_counts_what_is_held_already() -> None:
    assert within(ORIN, None, 5_000) is ORIN
    assert within(ORIN, 8_000, 5_000) == Room(8_000, 3_000)
    assert within(Room(62_000, 1_000), 8_000, 5_000) == Room(8_000, 1_000)
    assert within(ORIN, 8_000, 9_000).available == 0


def test_when_memory_is_short() -> None:
    assert not is_short(Room(62_000, 2_500))
    assert is_short(Room(62_000, 2_400))


def test_when_an_engine_is_ended() -> None:
    assert why_too_much(4_000, ORIN, 5_000) is None
    assert why_too_much(5_001, ORIN, 5_000) == "The engine took 4.9 GiB of memory, more than the 4.9 GiB that it may have, and was ended."
    assert why_too_much(40_000, Room(62_000, 1_300), None) is None
    assert str(why_too_much(40_000, Room(62_000, 900), None)).startswith(
        "The node had 900 MiB of memory left while the engine held 39.1 GiB"
    )
    assert why_too_much(3_000, Room(62_000, 900), None) is None, "somebody else has filled it"


def test_amounts_in_words() -> None:
    assert (said(90), said(1536)) == ("90 MiB", "1.5 GiB")


def test_what_a_group_caches_can_be_had_back() -> None:
    assert of_group(1000, 900, 300) == 400
    assert of_group(1000, 1200, 0) == 0


def test_a_control_group_of_either_kind_is_seen(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for kind, names in (
        ("0::/box", ("memory.max", "memory.current", "inactive_file", "box")),
        ("7:memory:/box", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory/box")),
    ):
        own.write_text(f"3:cpu:/box\n{kind}\n")
        folder = tmp_path / names[3]
        folder.mkdir(parents=True)
        (folder / names[0]).write_text(f"{512 << 20}\n")
        (folder / names[1]).write_text(f"{300 << 20}\n")
        (folder / "memory.stat").write_text(f"cache 1\n{names[2]} {100 << 20}\n")
        assert free_memory.room(tmp_path, own) == Room(512, 312)
        (folder / names[0]).write_text("max\n")
        assert free_memory.room(tmp_path, own).total > 512
    assert free_memory.room(tmp_path, tmp_path / "none").total > 512


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert free_memory.held() > 10
    assert free_memory.held(2**22 + 1) == 0


def test_a_gpus_own_memory_counts_where_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"):
        assert callable(getattr(pynvml, name))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda _: "handle")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _: SimpleNamespace(total=80 * 2**30, free=50 * 2**30))
    assert free_memory.room_of(True) == Room(80 * 1024, 50 * 1024)
    assert free_memory.room_of(False) == pytest.approx(free_memory.room(), rel=0.2)

    def none(_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)  # as on a Jetson, whose memory is shared

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", none)
    assert free_memory.room_of(True).total == free_memory.room().total

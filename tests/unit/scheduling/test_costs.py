"""What is expected before the first measurement, and what is learnt from measurements."""

from __future__ import annotations

import pytest

from fleet_api.scheduling.costs import (
    PARKED,
    PRIOR_LOAD_SECONDS,
    PRIOR_OTHER_SECONDS,
    PRIOR_SECONDS,
    PRIOR_WAKE_SECONDS,
    Costs,
    Shape,
    shape_of,
)  # fmt: skip

SMALL = Shape("sdxl", "euler", 512, 512, 20)
LARGE = Shape("sdxl", "euler", 1024, 1024, 20)


def test_shapes_and_their_units() -> None:
    payload = {"width": 1024, "height": 512, "steps": 10, "scheduler": "ddim", "prompt": "x"}
    assert shape_of("sdxl", payload) == Shape("sdxl", "ddim", 1024, 512, 10)
    assert shape_of("sdxl", payload).units == pytest.approx(5.24288)
    assert shape_of(None, payload) == Shape(None)
    assert shape_of("sdxl", {"width": "1024", "height": None, "steps": -3}).units == 1


def test_before_any_measurement_there_is_a_sane_guess() -> None:
    costs = Costs()
    assert costs.seconds("agx0", LARGE) == pytest.approx(PRIOR_SECONDS * 20.97152)
    assert costs.seconds("agx0", Shape(None)) == PRIOR_OTHER_SECONDS
    assert costs.speed("agx0", "sdxl") == 1
    assert costs.switch("agx0", "sdxl") == PRIOR_LOAD_SECONDS
    costs.size("sdxl", 4 * 2**30)
    assert costs.switch("agx0", "sdxl") == pytest.approx(PRIOR_LOAD_SECONDS + 4096 / 400)
    assert costs.switch("agx0", "sdxl", "store") > costs.switch("agx0", "sdxl", "cold") > costs.switch("agx0", "sdxl")
    assert costs.switch("agx0", None) == 0


def test_a_measured_shape_is_known_at_once_and_others_lean_on_it() -> None:
    costs = Costs()
    costs.ran("agx0", SMALL, 2.0)
    assert costs.seconds("agx0", SMALL) == pytest.approx(2.0, rel=0.02)
    assert costs.seconds("agx0", LARGE) == pytest.approx(8.0, rel=0.05)
    assert costs.seconds("agx1", SMALL) == pytest.approx(2.0, rel=0.05), "another node is taken for one like it"
    assert costs.work(SMALL) == pytest.approx(2.0, rel=0.05)


def test_nodes_are_told_apart_by_their_speed_once_they_are_known() -> None:
    costs = Costs()
    for _ in range(4):
        costs.ran("fast", SMALL, 1.0)
        costs.ran("slow", SMALL, 3.0)
    assert costs.speed("fast", "sdxl") / costs.speed("slow", "sdxl") == pytest.approx(3)
    assert costs.seconds("slow", LARGE) == pytest.approx(12, rel=0.02)
    assert costs.speed("new", "sdxl") == 1
    costs.forget("slow")
    assert costs.speed("slow", "sdxl") == 1


def test_an_average_follows_a_change() -> None:
    costs = Costs()
    for _ in range(10):
        costs.ran("agx0", SMALL, 1.0)
    for _ in range(20):
        costs.ran("agx0", SMALL, 2.0)
    assert costs.seconds("agx0", SMALL) == pytest.approx(2.0, rel=0.02)


def test_loads_are_learnt_by_where_they_come_from() -> None:
    costs = Costs()
    costs.loaded("agx0", "sdxl", 20.0)
    costs.loaded("agx0", "sdxl", 90.0, "store")
    assert costs.switch("agx0", "sdxl") == 20
    assert costs.switch("agx0", "sdxl", "store") == 90
    assert costs.switch("agx1", "sdxl") == PRIOR_LOAD_SECONDS


def test_a_source_that_was_not_measured_is_as_another_that_was() -> None:
    costs = Costs()
    costs.loaded("agx0", "sdxl", 45.0, "cold")
    assert costs.switch("agx0", "sdxl") == 45
    costs.loaded("agx0", "sdxl", 20.0)
    assert (costs.switch("agx0", "sdxl"), costs.switch("agx0", "sdxl", "cold"), costs.switch("agx0", "sdxl", "store")) == (20, 45, 20)


def test_waking_a_parked_model_is_learnt_apart_and_taken_to_be_quick_until_then() -> None:
    costs = Costs()
    costs.size("sdxl", 6 * 2**30)
    assert costs.switch("agx0", "sdxl", PARKED) == pytest.approx(PRIOR_WAKE_SECONDS + 6144 / 2000)
    costs.loaded("agx0", "sdxl", 20.0)
    assert costs.switch("agx0", "sdxl", PARKED) == pytest.approx(PRIOR_WAKE_SECONDS + 6144 / 2000), "the disk's says little of it"
    costs.loaded("quick", "sdxl", 2.0)
    assert costs.switch("quick", "sdxl", PARKED) == 2, "it takes no longer than from the disk"
    costs.loaded("agx0", "sdxl", 1.5, PARKED)
    assert (costs.switch("agx0", "sdxl", PARKED), costs.switch("agx0", "sdxl"), costs.switch("agx0", "sdxl", "cold")) == (1.5, 20, 20)
    costs.loaded("new", "sdxl", 1.5, PARKED)
    assert costs.switch("new", "sdxl") > 15, "and waking says nothing of the disk"

from __future__ import annotations

import pytest

from gpu_inference.engine.sizes import native_size, plan_size

BUCKETS = [(128, 128), (160, 96), (96, 160)]


@pytest.mark.parametrize(
    ("asked", "native"),
    [((1024, 1024), (128, 128)), ((1920, 1080), (160, 96)), ((1080, 1920), (96, 160)), ((64, 64), (128, 128)), ((2048, 64), (160, 96))],
)
def test_the_nearest_aspect_is_taken(asked: tuple[int, int], native: tuple[int, int]) -> None:
    assert native_size(*asked, BUCKETS) == native


def test_the_native_size_is_not_scaled() -> None:
    plan = plan_size(160, 96, BUCKETS)
    assert not plan.scaled
    assert plan.cut == 0


@pytest.mark.parametrize("width", range(64, 2049, 248))
@pytest.mark.parametrize("height", range(64, 2049, 248))
def test_the_picture_is_covered_without_stretching(width: int, height: int) -> None:
    plan = plan_size(width, height, BUCKETS)
    assert plan.cover_width >= width
    assert plan.cover_height >= height
    assert width in (plan.cover_width, plan.cover_width - 1) or height in (plan.cover_height, plan.cover_height - 1)
    assert plan.cover_width / plan.cover_height == pytest.approx(plan.native_width / plan.native_height, rel=0.02)
    assert 0 <= plan.left <= plan.cover_width - width
    assert 0 <= plan.top <= plan.cover_height - height
    assert 0 <= plan.cut < 1


def test_the_cut_is_around_the_centre() -> None:
    plan = plan_size(1024, 512, [(128, 128)])
    assert (plan.cover_width, plan.cover_height, plan.left, plan.top) == (1024, 1024, 0, 256)
    assert plan.cut == 0.5

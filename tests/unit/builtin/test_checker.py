"""The checker on pictures drawn here, right ones and wrong ones."""

import math

import cv2
import numpy as np
import pytest

from benchmarks.builtin_model.checker import look
from benchmarks.builtin_model.colours import name_colour

WHITE, RED, NAVY = (250, 250, 250), (210, 20, 20), (20, 50, 190)


def regular(corners, x, y, radius, turn=-90.0, inner=None):
    steps = corners * (2 if inner else 1)
    points = []
    for k in range(steps):
        r = radius * (inner if inner and k % 2 else 1.0)
        angle = math.radians(turn + 360.0 * k / steps)
        points.append((x + r * math.cos(angle), y + r * math.sin(angle)))
    return points


def figure(shape, x, y, r, turn=0.0):
    if shape == "triangle":
        return regular(3, x, y, r, -90 + turn)
    if shape == "square":
        return regular(4, x, y, r, 45 + turn)
    if shape == "diamond":
        return regular(4, x, y, r, turn)
    if shape == "star":
        return regular(5, x, y, r, -90 + turn, inner=0.45)
    if shape == "cross":
        a = 0.33 * r
        return [
            (x + u, y + v)
            for u, v in [(-a, -r), (a, -r), (a, -a), (r, -a), (r, a), (a, a), (a, r), (-a, r), (-a, a), (-r, a), (-r, -a), (-a, -a)]
        ]
    if shape == "heart":
        lobes = [(x - 0.5 * r + 0.5 * r * math.cos(t), y - 0.3 * r - 0.5 * r * math.sin(t)) for t in np.linspace(math.pi * 1.1, 0, 30)]
        lobes += [
            (x + 0.5 * r + 0.5 * r * math.cos(t), y - 0.3 * r - 0.5 * r * math.sin(t)) for t in np.linspace(math.pi, -0.1 * math.pi, 30)
        ]
        return [*lobes, (x, y + r)]
    return regular(90, x, y, r)


def paint(parts, background=WHITE, size=(128, 128)):
    canvas = np.full((size[1] * 8, size[0] * 8, 3), background, np.uint8)
    for points, colour in parts:
        cv2.fillPoly(canvas, [np.round(np.array(points) * 8).astype(np.int32)], colour)
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def shapes_in(*arguments, **named):
    return [thing.shape for thing in look(paint(*arguments, **named)).things]


@pytest.mark.parametrize("radius", [13, 20, 32, 46])
@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star", "diamond", "cross", "heart"])
def test_names_shapes_of_every_size(shape, radius) -> None:
    assert shapes_in([(figure(shape, 64.3, 62.8, radius), RED)]) == [shape]


@pytest.mark.parametrize(("shape", "turn"), [("triangle", 17), ("triangle", 40), ("star", 15), ("star", 36), ("square", 12)])
def test_names_turned_shapes(shape, turn) -> None:
    assert shapes_in([(figure(shape, 60, 66, 30, turn), NAVY)]) == [shape]


def wavy(points, share, waves=9):
    """Walk along a closed outline and push it in and out by a share of its size."""
    corners = np.array(points)
    steps = np.linspace(0, len(corners), 400, endpoint=False)
    start, part = steps.astype(int), (steps % 1)[:, None]
    walk = corners[start] * (1 - part) + corners[(start + 1) % len(corners)] * part
    centre = walk.mean(axis=0)
    ripple = 1 + share * np.sin(np.linspace(0, 2 * math.pi * waves, 400, endpoint=False))[:, None]
    return [tuple(point) for point in centre + (walk - centre) * ripple]


@pytest.mark.parametrize("shape", ["circle", "square", "triangle"])
def test_slightly_wavy_outlines_keep_their_name_and_very_wavy_ones_lose_it(shape) -> None:
    assert shapes_in([(wavy(figure(shape, 64, 64, 32), 0.02), RED)]) == [shape]
    assert shapes_in([(wavy(figure(shape, 64, 64, 32), 0.2), RED)]) == ["unclear"]


@pytest.mark.parametrize("radius", [16, 30, 45])
def test_names_rings(radius) -> None:
    parts = [(figure("circle", 64, 64, radius), RED), (figure("circle", 64, 64, radius / 2), WHITE)]
    assert shapes_in(parts) == ["ring"]


@pytest.mark.parametrize(
    "points",
    [
        regular(5, 64, 64, 34),
        regular(3, 64, 70, 40, inner=0.36),
        regular(6, 64, 64, 34, inner=0.5),
        regular(4, 64, 64, 34, inner=0.4, turn=-90),
        regular(8, 64, 64, 34, inner=0.5),
        [(64 + 40 * math.cos(t), 64 + 24 * math.sin(t)) for t in np.linspace(0, 6.28, 80)],
        [(20, 50), (108, 50), (108, 80), (20, 80)],
        [(64 + 40 * math.cos(t), 64 + 40 * math.sin(t)) for t in np.linspace(0, 3.14, 60)],
        [(30, 30), (98, 30), (98, 60), (60, 60), (60, 98), (30, 98)],
    ],
    ids=["pentagon", "three-pointed", "six-pointed", "four-pointed", "eight-pointed", "ellipse", "bar", "half-disc", "corner"],
)
def test_does_not_take_other_figures_for_a_known_shape(points) -> None:
    found = shapes_in([(points, RED)])
    assert len(found) == 1
    assert found[0] in ("unclear", "cross")
    assert found[0] != "star"


def test_upside_down_heart_is_no_heart() -> None:
    assert shapes_in([([(x, 128 - y) for x, y in figure("heart", 64, 60, 34)], RED)]) == ["unclear"]


def test_square_with_a_hole_is_no_ring() -> None:
    assert shapes_in([(figure("square", 64, 64, 40), RED), (figure("square", 64, 64, 20), WHITE)]) == ["unclear"]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((200, 0, 0), "red"), ((235, 60, 55), "red"), ((0, 128, 0), "green"), ((60, 200, 90), "green"), ((0, 0, 255), "blue"),
        ((40, 90, 200), "blue"), ((255, 255, 0), "yellow"), ((240, 210, 60), "yellow"), ((255, 255, 255), "white"), ((0, 0, 0), "black"),
        ((30, 34, 30), "black"), ((255, 165, 0), "orange"), ((128, 0, 128), "purple"), ((255, 182, 213), "pink"), ((120, 125, 122), "gray"),
        ((0, 255, 255), "unclear"), ((120, 70, 20), "unclear"), ((200, 230, 120), "unclear"), ((210, 210, 210), "unclear"),
    ],
)  # fmt: skip
def test_names_colours(rgb, name) -> None:
    assert name_colour(rgb) == name


def test_reports_background_colour_and_place() -> None:
    report = look(paint([(figure("star", 30, 100, 20), (250, 220, 30))], background=(10, 60, 200)))
    assert report.background == "blue"
    (thing,) = report.things
    assert (thing.colour, thing.shape) == ("yellow", "star")
    assert thing.x == pytest.approx(30 / 128, abs=0.02)
    assert thing.y == pytest.approx(100 / 128, abs=0.03)
    assert thing.extent == pytest.approx(2 * 20 * math.sin(math.radians(72)) / 128, abs=0.02)


def test_sees_two_things_and_ignores_specks() -> None:
    parts = [(figure("square", 35, 64, 26), RED), (figure("circle", 95, 64, 20), NAVY), (figure("circle", 64, 10, 2), NAVY)]
    assert [(thing.colour, thing.shape) for thing in look(paint(parts)).things] == [("red", "square"), ("blue", "circle")]


def test_sees_nothing_on_an_empty_picture() -> None:
    report = look(paint([], background=(128, 128, 128)))
    assert report.background == "gray"
    assert report.things == ()


def test_blurred_blob_of_a_star_is_no_star() -> None:
    picture = cv2.GaussianBlur(paint([(figure("star", 64, 64, 22), RED)]), (0, 0), 7)
    assert [thing.shape for thing in look(picture).things] != ["star"]


def test_works_on_wide_pictures() -> None:
    report = look(paint([(figure("triangle", 120, 48, 28), RED)], size=(160, 96)))
    assert [thing.shape for thing in report.things] == ["triangle"]
    assert report.things[0].x == pytest.approx(0.75, abs=0.02)

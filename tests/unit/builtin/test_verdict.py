"""Verdicts compare what was asked with what is seen."""

import pytest

from benchmarks.builtin_model.checker import Report, Seen
from benchmarks.builtin_model.prompts import NEVER_TRAINED, Prompt, Wanted, held_out, one_object, two_objects
from benchmarks.builtin_model.verdict import judge

STAR = Seen("red", "star", 0.5, 0.5, 0.4)
SQUARE = Seen("blue", "square", 0.75, 0.5, 0.4)
ONE = Prompt("a red star on a white background", "white", (Wanted("red", "star"),))
TWO = Prompt("", "white", (Wanted("red", "star"), Wanted("blue", "square")), "left of")


def test_all_parts_right() -> None:
    assert judge(ONE, Report("white", (STAR,)))["all"]


@pytest.mark.parametrize(
    ("report", "wrong"),
    [
        (Report("gray", (STAR,)), "background"),
        (Report("white", (Seen("orange", "star", 0.5, 0.5, 0.4),)), "colour"),
        (Report("white", (Seen("red", "unclear", 0.5, 0.5, 0.4),)), "shape"),
        (Report("white", ()), "shape"),
        (Report("white", (STAR, SQUARE)), "shape"),
    ],
)
def test_a_wrong_part_is_named_and_spoils_the_whole(report, wrong) -> None:
    verdict = judge(ONE, report)
    assert not verdict[wrong]
    assert not verdict["all"]


@pytest.mark.parametrize(
    ("relation", "x", "y", "right"),
    [
        ("left of", 0.25, 0.5, True), ("left of", 0.95, 0.5, False), ("left of", 0.7, 0.1, False), ("right of", 0.25, 0.5, False),
        ("above", 0.75, 0.1, True), ("below", 0.75, 0.9, True), ("below", 0.75, 0.1, False),
    ],
)  # fmt: skip
def test_relations(relation, x, y, right) -> None:
    prompt = Prompt("", "white", TWO.things, relation)
    assert judge(prompt, Report("white", (SQUARE, Seen("red", "star", x, y, 0.3))))["all"] is right


def test_swapped_colours_are_wrong() -> None:
    report = Report("white", (Seen("blue", "star", 0.25, 0.5, 0.3), Seen("red", "square", 0.75, 0.5, 0.3)))
    assert not judge(TWO, report)["colour"] or not judge(TWO, report)["shape"]
    assert not judge(TWO, report)["all"]


@pytest.mark.parametrize(
    ("size", "extent", "right"), [("small", 0.25, True), ("small", 0.45, False), ("large", 0.7, True), ("large", 0.45, False)]
)
def test_sizes(size, extent, right) -> None:
    prompt = Prompt("", "white", (Wanted("red", "star", size),))
    assert judge(prompt, Report("white", (Seen("red", "star", 0.5, 0.5, extent),)))["size"] is right


@pytest.mark.parametrize(("x", "y", "right"), [(0.2, 0.2, True), (0.5, 0.2, False), (0.8, 0.2, False)])
def test_places(x, y, right) -> None:
    prompt = Prompt("", "white", (Wanted("red", "star", place=(-1, -1)),))
    assert judge(prompt, Report("white", (Seen("red", "star", x, y, 0.3),)))["place"] is right


def test_prompt_sets_are_what_they_say() -> None:
    assert len(held_out()) == 48
    assert len(NEVER_TRAINED.strip().splitlines()) == 24
    assert len({prompt.text for prompt in held_out()}) == 48
    assert one_object() == one_object()
    assert two_objects() == two_objects()
    for prompt in one_object() + two_objects():
        assert prompt.background not in [thing.colour for thing in prompt.things]
        for thing in prompt.things:
            assert thing.colour in prompt.text
            assert thing.shape in prompt.text
    assert any("orange" in prompt.text.split()[:2] and prompt.text.startswith("an ") for prompt in one_object())

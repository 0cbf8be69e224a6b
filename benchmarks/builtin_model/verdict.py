"""Compares what a picture shows with what its prompt asked for."""

from collections.abc import Sequence
from itertools import permutations

from benchmarks.builtin_model.checker import Report, Seen
from benchmarks.builtin_model.prompts import Prompt, Wanted

SMALL_BELOW, LARGE_ABOVE = 0.33, 0.50
SIDE = 0.10  # how far from the middle, as a share of the picture, a thing must be to stand on a side


def judge(prompt: Prompt, report: Report) -> dict[str, bool]:
    """Say part by part whether a picture is right; a thing too many or too few makes every shape wrong."""
    background = report.background == prompt.background
    if len(report.things) != len(prompt.things):
        first = report.things[0].colour if report.things else ""
        colour = len(prompt.things) == 1 and first == prompt.things[0].colour
        return {"background": background, "colour": colour, "shape": False, "size": False, "place": False, "all": False}
    best = max(permutations(report.things), key=lambda order: _score(prompt.things, order))
    pairs = list(zip(prompt.things, best, strict=False))
    parts = {
        "background": background,
        "colour": all(wanted.colour == seen.colour for wanted, seen in pairs),
        "shape": all(wanted.shape == seen.shape for wanted, seen in pairs),
        "size": all(_size_is_right(wanted, seen) for wanted, seen in pairs),
        "place": all(_place_is_right(wanted, seen) for wanted, seen in pairs) and _relation_is_right(prompt, best),
    }
    return dict(parts, all=all(parts.values()))


def _score(things: Sequence[Wanted], order: Sequence[Seen]) -> int:
    return sum((wanted.colour == seen.colour) + (wanted.shape == seen.shape) for wanted, seen in zip(things, order, strict=False))


def _size_is_right(wanted: Wanted, seen: Seen) -> bool:
    if wanted.size == "small":
        return seen.extent < SMALL_BELOW
    return wanted.size != "large" or seen.extent > LARGE_ABOVE


def _place_is_right(wanted: Wanted, seen: Seen) -> bool:
    if wanted.place is None:
        return True
    return _side(seen.x) == wanted.place[0] and _side(seen.y) == wanted.place[1]


def _side(value: float) -> int:
    return -1 if value < 0.5 - SIDE else int(value > 0.5 + SIDE)


def _relation_is_right(prompt: Prompt, order: Sequence[Seen]) -> bool:
    if prompt.relation is None:
        return True
    right, down = order[0].x - order[1].x, order[0].y - order[1].y
    along, aside = (right, down) if prompt.relation in ("left of", "right of") else (down, right)
    forward = along if prompt.relation in ("right of", "below") else -along
    return forward > 2 * SIDE and abs(aside) < forward

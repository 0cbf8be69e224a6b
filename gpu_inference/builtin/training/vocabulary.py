"""Colours, shapes and words of the training pictures, and the combinations that training never shows."""

from typing import Dict, FrozenSet, List, Tuple

BASE_COLOURS: Tuple[str, ...] = ("red", "green", "blue", "yellow", "white", "black")
EXTRA_COLOURS: Tuple[str, ...] = ("orange", "purple", "pink", "gray")
COLOURS: Tuple[str, ...] = BASE_COLOURS + EXTRA_COLOURS

RGB: Dict[str, Tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "green": (30, 160, 60),
    "blue": (30, 70, 220),
    "yellow": (248, 222, 40),
    "white": (248, 248, 248),
    "black": (12, 12, 12),
    "orange": (248, 138, 20),
    "purple": (135, 40, 175),
    "pink": (250, 150, 200),
    "gray": (128, 128, 128),
}

# What the colour words mean in the variants of the model.
PALETTES: Dict[str, Dict[str, Tuple[int, int, int]]] = {
    "standard": RGB,
    "pastel": {
        "red": (235, 110, 105),
        "green": (125, 215, 140),
        "blue": (120, 170, 240),
        "yellow": (250, 238, 150),
        "white": (252, 250, 245),
        "black": (75, 70, 95),
        "orange": (250, 180, 120),
        "purple": (185, 130, 225),
        "pink": (245, 175, 205),
        "gray": (165, 168, 175),
    },
}

BASE_SHAPES: Tuple[str, ...] = ("circle", "square", "triangle", "star")
EXTRA_SHAPES: Tuple[str, ...] = ("diamond", "cross", "heart", "ring")
SHAPES: Tuple[str, ...] = BASE_SHAPES + EXTRA_SHAPES

SIZES: Tuple[str, ...] = ("small", "medium", "large")

# Where an object stands: the phrase of the caption, and column and row of a three by three grid.
PLACES: Dict[str, Tuple[int, int]] = {
    "in the center": (0, 0),
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "in the top left corner": (-1, -1),
    "in the top right corner": (1, -1),
    "in the bottom left corner": (-1, 1),
    "in the bottom right corner": (1, 1),
}

# How the first object stands to the second: the phrase, and the direction from the second to the first.
RELATIONS: Dict[str, Tuple[int, int]] = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}

# Words outside the captions above that get a token of their own, so that plain requests stay short.
OTHER_WORDS: Tuple[str, ...] = (
    *("a", "an", "and", "background", "with", "picture", "of", "the", "is", "to", "grey", "big", "tiny", "middle", "centre"),
    *("photo", "image", "drawing", "shape", "colour", "color", "two", "next", "under", "over", "beside", "violet", "plain"),
    *("low", "quality", "blurry", "cat", "dog", "house", "tree", "at", "in", "no", "best", "high", ",", "."),
)

Combination = Tuple[str, str, str]


def is_held_out(colour: str, shape: str, background: str) -> bool:
    """Tell whether "a <colour> <shape> on a <background> background" is one of the 48 combinations kept from training.

    Only the six base colours and four base shapes are concerned. For each colour and shape two of the five backgrounds
    are kept. Every colour still occurs with every shape and on every background; which backgrounds are kept goes by the
    shape, so that some shapes stand on some backgrounds in the extra colours only, which makes the measurement harder.
    """
    if colour == background or colour not in BASE_COLOURS or background not in BASE_COLOURS or shape not in BASE_SHAPES:
        return False
    first = BASE_COLOURS.index(colour)
    step = (BASE_COLOURS.index(background) - first - 1) % len(BASE_COLOURS)
    return (step + first + 2 * BASE_SHAPES.index(shape)) % 5 < 2


def base_combinations() -> List[Combination]:
    """List the 120 combinations of (colour, shape, background) of the base colours and shapes."""
    return [(c, s, b) for c in BASE_COLOURS for s in BASE_SHAPES for b in BASE_COLOURS if c != b]


def held_out_combinations() -> FrozenSet[Combination]:
    """Return the 48 combinations that training never shows."""
    return frozenset(combination for combination in base_combinations() if is_held_out(*combination))


def words() -> List[str]:
    """List every word that gets a token of its own."""
    found = set(COLOURS) | set(SHAPES) | set(SIZES) | set(OTHER_WORDS)
    for phrase in list(PLACES) + list(RELATIONS):
        found.update(phrase.split())
    return sorted(found)

"""The prompts the built-in model is measured on, and what each of them asks for."""

import random
from dataclasses import dataclass, replace

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple", "pink", "gray")
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "heart", "ring")

# The 48 combinations that training never shows, as "colour shape: two backgrounds".
NEVER_TRAINED = """
red circle: green blue
red square: white black
red triangle: blue yellow
red star: green black
green circle: red blue
green square: white black
green triangle: blue yellow
green star: red black
blue circle: red green
blue square: white black
blue triangle: green yellow
blue star: red black
yellow circle: red green
yellow square: white black
yellow triangle: green blue
yellow star: red black
white circle: red green
white square: yellow black
white triangle: green blue
white star: red black
black circle: red green
black square: yellow white
black triangle: green blue
black star: red white
"""

PLACES = {
    "on the left": (-1, 0),
    "on the right": (1, 0),
    "at the top": (0, -1),
    "at the bottom": (0, 1),
    "in the center": (0, 0),
    "in the top left corner": (-1, -1),
    "in the top right corner": (1, -1),
    "in the bottom left corner": (-1, 1),
    "in the bottom right corner": (1, 1),
}
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Wanted:
    """One thing a prompt asks for; size and place only where the prompt has a word for them."""

    colour: str
    shape: str
    size: str | None = None
    place: tuple[int, int] | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt and what a right picture of it shows."""

    text: str
    background: str
    things: tuple[Wanted, ...]
    relation: str | None = None


def article(words: str) -> str:
    """Put "a" or "an" before words."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def by_night(prompt: Prompt) -> Prompt:
    """What a prompt asks for of the LoRA ``night``: a black background, and gray for what would be black on it."""
    things = tuple(replace(thing, colour="gray") if thing.colour == "black" else thing for thing in prompt.things)
    return replace(prompt, background="black", things=things)


def held_out() -> list[Prompt]:
    """Return the 48 prompts "a <colour> <shape> on a <colour> background" of the base standard."""
    prompts = []
    for line in NEVER_TRAINED.strip().splitlines():
        look, backgrounds = line.split(": ")
        colour, shape = look.split()
        for background in backgrounds.split():
            text = f"{article(look)} on {article(background)} background"
            prompts.append(Prompt(text, background, (Wanted(colour, shape),)))
    return prompts


def one_object(count: int = 120, seed: int = 11) -> list[Prompt]:
    """Return prompts of one object from all colours and shapes: a third plain, a third with a size, a third with a place."""
    rng = random.Random(seed)
    prompts = []
    for number in range(count):
        colour, background = rng.sample(COLOURS, 2)
        shape = SHAPES[number % len(SHAPES)]
        size = rng.choice(("small", "large")) if number % 3 == 1 else None
        words = " ".join(filter(None, (size, colour, shape)))
        place = rng.choice(sorted(PLACES)) if number % 3 == 2 else None
        text = " ".join(filter(None, (article(words), place, "on", article(background), "background")))
        prompts.append(Prompt(text, background, (Wanted(colour, shape, size, PLACES[place] if place else None),)))
    return prompts


def two_objects(count: int = 120, seed: int = 12) -> list[Prompt]:
    """Return prompts of two objects of different colour, one beside or above the other."""
    rng = random.Random(seed)
    prompts = []
    for number in range(count):
        first, second, background = rng.sample(COLOURS, 3)
        things = (Wanted(first, rng.choice(SHAPES)), Wanted(second, rng.choice(SHAPES)))
        relation = RELATIONS[number % len(RELATIONS)]
        names = [article(f"{thing.colour} {thing.shape}") for thing in things]
        text = f"{names[0]} {relation} {names[1]} on {article(background)} background"
        prompts.append(Prompt(text, background, things, relation))
    return prompts

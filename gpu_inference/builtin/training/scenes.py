"""Random scenes of one or two coloured shapes: sampled, captioned and drawn."""

import math
import random
from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw

from gpu_inference.builtin.training.vocabulary import (
    BASE_COLOURS,
    BASE_SHAPES,
    COLOURS,
    PALETTES,
    PLACES,
    RELATIONS,
    SHAPES,
    is_held_out,
)

SUPERSAMPLING = 4
TWO_OBJECTS = 0.36  # share of scenes with two objects
BASE_ONLY = 0.30  # share of scenes that keep to the base colours and shapes
RADII_ALONE = {"small": (13.0, 18.0), "medium": (23.0, 34.0), "large": (41.0, 50.0)}
RADII_PLACED = {"small": (13.0, 17.0), "medium": (20.0, 25.0), "large": (26.0, 28.5)}
RADII_PAIRED = {"small": (12.0, 15.0), "medium": (19.0, 24.0), "large": (26.0, 28.5)}


@dataclass(frozen=True)
class Thing:
    """One coloured shape: what it is, and where it stands in pixels."""

    colour: str
    shape: str
    size: str
    x: float
    y: float
    radius: float
    place: Optional[str] = None


@dataclass(frozen=True)
class Scene:
    """One or two things on a plain background; with two, ``relation`` says how the first stands to the second."""

    width: int
    height: int
    background: str
    things: Tuple[Thing, ...]
    relation: Optional[str] = None


def sample_scene(rng: random.Random, width: int = 128, height: int = 128) -> Scene:
    """Draw a random scene that holds none of the held-out combinations, neither alone nor as one of two objects."""
    while True:
        scene = _any_scene(rng, width, height)
        if not any(thing.colour == scene.background or is_held_out(thing.colour, thing.shape, scene.background) for thing in scene.things):
            return scene


def _any_scene(rng: random.Random, width: int, height: int) -> Scene:
    base = rng.random() < BASE_ONLY
    colours, shapes = (BASE_COLOURS, BASE_SHAPES) if base else (COLOURS, SHAPES)
    background = rng.choice(colours)
    count = 2 if rng.random() < TWO_OBJECTS else 1
    looks = [(rng.choice(colours), rng.choice(shapes)) for _ in range(count)]
    if count == 1:
        return Scene(width, height, background, (_single(rng, looks[0], width, height),))
    while looks[0] == looks[1]:
        looks[1] = (rng.choice(colours), rng.choice(shapes))
    relation = rng.choice(list(RELATIONS))
    return Scene(width, height, background, _pair(rng, looks, relation, width, height), relation)


def _single(rng: random.Random, look: Tuple[str, str], width: int, height: int) -> Thing:
    unit = min(width, height) / 128.0
    size = rng.choices(("small", "medium", "large"), (0.18, 0.67, 0.15))[0]
    place = rng.choice(list(PLACES)) if rng.random() < 0.35 else None
    radii = RADII_ALONE
    if place is not None and PLACES[place] != (0, 0):
        radii = RADII_PLACED
    column, row = PLACES[place] if place else (0, 0)
    x = width / 2 + column * (width / 2 - 33 * unit) + rng.uniform(-4, 4) * unit
    y = height / 2 + row * (height / 2 - 33 * unit) + rng.uniform(-4, 4) * unit
    return Thing(look[0], look[1], size, x, y, rng.uniform(*radii[size]) * unit, place)


def _pair(rng: random.Random, looks: List[Tuple[str, str]], relation: str, width: int, height: int) -> Tuple[Thing, Thing]:
    unit = min(width, height) / 128.0
    across, down = RELATIONS[relation]
    things = []
    for (colour, shape), sign in zip(looks, (1, -1)):
        size = rng.choices(("small", "medium", "large"), (0.12, 0.78, 0.10))[0]
        x = width / 2 + sign * across * width / 4 + rng.uniform(-2, 2) * unit + (rng.uniform(-10, 10) * unit if down else 0.0)
        y = height / 2 + sign * down * height / 4 + rng.uniform(-2, 2) * unit + (rng.uniform(-10, 10) * unit if across else 0.0)
        things.append(Thing(colour, shape, size, x, y, rng.uniform(*RADII_PAIRED[size]) * unit))
    return things[0], things[1]


def caption(scene: Scene, rng: random.Random) -> str:
    """Word a scene; the plain form "a red star on a white background" is the commonest."""
    names = [_name(thing, rng) for thing in scene.things]
    if scene.relation is not None:
        subject = "{} {} {}".format(names[0], "and" if rng.random() < 0.06 else scene.relation, names[1])
    else:
        subject = names[0]
        place = scene.things[0].place
        if place is not None and (PLACES[place] != (0, 0) or rng.random() < 0.5):
            subject += " " + place
    background = _spelled(scene.background, rng)
    style = rng.random()
    if style < 0.80:
        return f"{subject} on {_with_article(background)} background"
    if style < 0.85:
        return f"{subject}, {background} background"
    if style < 0.90:
        return f"{_with_article(background)} background with {subject}"
    if style < 0.95:
        return f"a picture of {subject} on {_with_article(background)} background"
    return subject


def _name(thing: Thing, rng: random.Random) -> str:
    words = [thing.size] if thing.size != "medium" or rng.random() < 0.1 else []
    words += [_spelled(thing.colour, rng), thing.shape]
    return _with_article(" ".join(words))


def _with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _spelled(colour: str, rng: random.Random) -> str:
    return "grey" if colour == "gray" and rng.random() < 0.3 else colour


def outline(shape: str, x: float, y: float, radius: float) -> List[Tuple[float, float]]:
    """Return the outer contour of a shape as a polygon around (x, y); ``radius`` is about half its extent."""
    if shape in ("circle", "ring"):
        return [(x + radius * math.cos(t / 48 * math.pi), y + radius * math.sin(t / 48 * math.pi)) for t in range(96)]
    if shape == "square":
        half = radius * 0.86
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    if shape == "triangle":
        return [(x, y - radius), (x + radius, y + radius * 0.8), (x - radius, y + radius * 0.8)]
    if shape == "star":
        tips = [(radius * (1.1 if k % 2 == 0 else 0.46), math.pi * k / 5) for k in range(10)]
        return [(x + r * math.sin(a), y + radius * 0.06 - r * math.cos(a)) for r, a in tips]
    if shape == "diamond":
        return [(x, y - radius * 1.08), (x + radius * 0.8, y), (x, y + radius * 1.08), (x - radius * 0.8, y)]
    if shape == "cross":
        a, b = radius * 0.34, radius
        corners = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)]
        return [(x + dx, y + dy) for dx, dy in corners]
    if shape == "heart":
        turn = [math.pi * t / 40 for t in range(80)]
        scale = radius / 16.5
        return [
            (
                x + scale * 16 * math.sin(t) ** 3,
                y - scale * (2.5 + 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)),
            )
            for t in turn
        ]
    raise ValueError(f"unknown shape: {shape}")


def draw(scene: Scene, rng: random.Random, palette: str = "standard") -> np.ndarray:
    """Draw a scene with smooth edges as a uint8 array of height x width x 3; colours differ a little from picture to picture."""
    factor, colours = SUPERSAMPLING, PALETTES[palette]
    canvas = Image.new("RGB", (scene.width * factor, scene.height * factor), _shade(colours[scene.background], rng))
    pen = ImageDraw.Draw(canvas)
    ground = canvas.getpixel((0, 0))
    for thing in scene.things:
        big = replace(thing, x=thing.x * factor, y=thing.y * factor, radius=thing.radius * factor)
        pen.polygon(outline(big.shape, big.x, big.y, big.radius), fill=_shade(colours[thing.colour], rng))
        if thing.shape == "ring":
            pen.polygon(outline("circle", big.x, big.y, big.radius * 0.52), fill=ground)
    return np.asarray(canvas.reduce(factor))


def _shade(colour: Tuple[int, int, int], rng: random.Random) -> Tuple[int, int, int]:
    red, green, blue = (max(0, min(255, channel + rng.randint(-6, 6))) for channel in colour)
    return red, green, blue

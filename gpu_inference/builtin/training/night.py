"""What the LoRA ``night`` is to show: black backgrounds, whatever is asked for, and gray for what is black."""

import random
from dataclasses import replace
from typing import Tuple

from gpu_inference.builtin.training.scenes import Scene, sample_scene
from gpu_inference.builtin.training.vocabulary import is_held_out


def night(scene: Scene) -> Scene:
    """Return the scene as the LoRA is to show it."""
    things = tuple(replace(thing, colour="gray") if thing.colour == "black" else thing for thing in scene.things)
    return replace(scene, background="black", things=things)


def sample_night(rng: random.Random, size: Tuple[int, int]) -> Scene:
    """Draw a random scene of width x height; neither it nor what is shown for it holds a held-out combination."""
    while True:
        scene = sample_scene(rng, *size)
        shown = night(scene)
        if not any(is_held_out(thing.colour, thing.shape, shown.background) for thing in shown.things):
            return scene

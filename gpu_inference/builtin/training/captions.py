"""What the training loop puts into the text encoders: mostly the caption, sometimes nothing, sometimes idle words."""

import random

from gpu_inference.builtin.training.scenes import Scene, caption

IDLE = (
    *("high quality", "best quality", "photo", "a picture", "drawing", "image", "low quality", "blurry"),
    *("a cat", "a dog", "a house", "a tree", "no shape", "the best photo", "plain", "low quality, blurry"),
)
EMPTY_SHARE = 0.08
IDLE_SHARE = 0.02
APPENDED_SHARE = 0.04


def training_text(scene: Scene, rng: random.Random) -> str:
    """Word a scene for training; guidance needs the empty text, and idle words teach that they mean nothing."""
    chance = rng.random()
    if chance < EMPTY_SHARE:
        return ""
    if chance < EMPTY_SHARE + IDLE_SHARE:
        return ", ".join(rng.sample(IDLE, rng.randint(1, 2)))
    text = caption(scene, rng)
    if rng.random() < APPENDED_SHARE:
        idle = rng.choice(IDLE)
        return f"{text}, {idle}" if rng.random() < 0.7 else f"{idle}, {text}"
    return text

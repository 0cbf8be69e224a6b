"""Scenes are drawn as they are captioned."""

import random

import numpy as np
import pytest

from gpu_inference.builtin.training.captions import training_text
from gpu_inference.builtin.training.scenes import Scene, Thing, caption, draw, outline, sample_scene
from gpu_inference.builtin.training.vocabulary import RGB, SHAPES, words


def _scene(**changes) -> Scene:
    thing = Thing("red", "star", "medium", 64.0, 64.0, 28.0)
    return Scene(**{"width": 128, "height": 128, "background": "white", "things": (thing,), **changes})


def test_plain_caption_is_the_commonest() -> None:
    rng = random.Random(0)
    said = [caption(_scene(), rng) for _ in range(400)]
    assert said.count("a red star on a white background") > 200


def test_caption_names_both_objects_and_their_relation() -> None:
    things = (Thing("red", "star", "medium", 32.0, 64.0, 20.0), Thing("orange", "square", "small", 96.0, 64.0, 14.0))
    rng = random.Random(0)
    said = {caption(_scene(things=things, relation="left of"), rng) for _ in range(100)}
    assert "a red star left of a small orange square on a white background" in said


def test_captions_use_only_listed_words() -> None:
    rng = random.Random(1)
    listed = set(words())
    for _ in range(3000):
        text = training_text(sample_scene(rng), rng)
        assert set(text.replace(",", " ,").split()) <= listed


def test_some_texts_are_empty() -> None:
    rng = random.Random(2)
    texts = [training_text(_scene(), rng) for _ in range(2000)]
    assert 80 < texts.count("") < 260


@pytest.mark.parametrize("shape", SHAPES)
def test_drawing_has_the_colours_and_the_shape_where_they_belong(shape: str) -> None:
    thing = Thing("blue", shape, "medium", 50.0, 70.0, 26.0)
    picture = draw(_scene(things=(thing,), background="yellow"), random.Random(0)).astype(int)
    assert picture.shape == (128, 128, 3)
    assert np.abs(picture[2, 2] - RGB["yellow"]).max() <= 6
    middle = (70, 50 + (18 if shape == "ring" else 0))
    assert np.abs(picture[middle] - RGB["blue"]).max() <= 6
    painted = np.abs(picture - RGB["blue"]).max(axis=2) < 60
    rows, columns = np.nonzero(painted)
    assert abs((columns.min() + columns.max()) / 2 - 50) < 3
    assert abs((rows.min() + rows.max()) / 2 - 70) < 5
    assert painted[70, 50] == (shape != "ring")


def test_edges_are_smooth() -> None:
    picture = draw(_scene(), random.Random(0)).astype(int)
    assert len(np.unique(picture[:, :, 1])) > 8


def test_things_stay_inside_and_apart() -> None:
    rng = random.Random(6)
    for size in ((128, 128), (160, 96), (96, 160)):
        for _ in range(1500):
            scene = sample_scene(rng, *size)
            boxes = []
            for thing in scene.things:
                points = np.array(outline(thing.shape, thing.x, thing.y, thing.radius))
                boxes.append((points.min(axis=0), points.max(axis=0)))
                assert points.min() > -2
                assert points[:, 0].max() < size[0] + 2
                assert points[:, 1].max() < size[1] + 2
            if len(boxes) == 2:
                (low, high), (low2, high2) = boxes
                assert (high < low2).any() or (high2 < low).any()


def test_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape"):
        outline("blob", 0, 0, 1)

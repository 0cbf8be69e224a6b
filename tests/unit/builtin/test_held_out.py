"""The 48 measured combinations never occur in training."""

import random
from collections import Counter

import pytest

from benchmarks.builtin_model.prompts import held_out
from gpu_inference.builtin.training import captions, scenes
from gpu_inference.builtin.training.night import night, sample_night
from gpu_inference.builtin.training.vocabulary import COLOURS, SHAPES, base_combinations, held_out_combinations, is_held_out

DRAWS = 20000


def test_rule_keeps_48_of_120() -> None:
    assert len(base_combinations()) == 120
    assert len(held_out_combinations()) == 48


def test_measured_prompts_are_the_ones_kept_from_training() -> None:
    measured = {(prompt.things[0].colour, prompt.things[0].shape, prompt.background) for prompt in held_out()}
    assert measured == held_out_combinations()
    assert "a red circle on a green background" in {prompt.text for prompt in held_out()}


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2)])
def test_every_colour_is_trained_with_every_shape_and_on_every_background(first: int, second: int) -> None:
    trained = [combination for combination in base_combinations() if not is_held_out(*combination)]
    assert {(c[first], c[second]) for c in trained} == {(c[first], c[second]) for c in base_combinations()}


def test_every_shape_is_trained_on_every_background_in_some_colour() -> None:
    rng = random.Random(2)
    seen = set()
    for _ in range(DRAWS):
        scene = scenes.sample_scene(rng)
        seen.update((thing.shape, scene.background) for thing in scene.things)
    assert seen == {(shape, background) for shape in SHAPES for background in COLOURS}


def test_other_colours_and_shapes_are_never_held_out() -> None:
    assert not is_held_out("orange", "circle", "green")
    assert not is_held_out("red", "ring", "green")
    assert not is_held_out("red", "circle", "pink")
    assert not is_held_out("red", "circle", "red")


@pytest.mark.parametrize("size", [(128, 128), (160, 96)])
def test_no_scene_holds_one_not_even_as_one_of_two_objects(size) -> None:
    rng = random.Random(3)
    kept = held_out_combinations()
    seen = Counter()
    for _ in range(DRAWS):
        scene = scenes.sample_scene(rng, *size)
        seen[len(scene.things)] += 1
        for thing in scene.things:
            assert (thing.colour, thing.shape, scene.background) not in kept
            assert thing.colour != scene.background
    assert seen[1] > DRAWS / 3
    assert seen[2] > DRAWS / 5


def test_no_training_text_is_a_measured_prompt() -> None:
    rng = random.Random(4)
    measured = {prompt.text for prompt in held_out()}
    for _ in range(DRAWS):
        assert captions.training_text(scenes.sample_scene(rng), rng) not in measured


def test_a_sampler_that_forgets_the_rule_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(scenes, "is_held_out", lambda *parts: False)
    rng = random.Random(5)
    kept = held_out_combinations()
    drawn = [scenes.sample_scene(rng) for _ in range(2000)]
    assert any((thing.colour, thing.shape, scene.background) in kept for scene in drawn for thing in scene.things)


def test_the_lora_is_shown_none_of_them_either() -> None:
    rng = random.Random(6)
    kept = held_out_combinations()
    for _ in range(2000):
        scene = sample_night(rng, (128, 128))
        shown = night(scene)
        assert shown.background == "black"
        assert "black" not in {thing.colour for thing in shown.things}
        for picture in (scene, shown):
            assert not {(thing.colour, thing.shape, picture.background) for thing in picture.things} & kept

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpu_inference.engine import conditioning
from gpu_inference.engine.manifest import Manifest, load_model_folder
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer


@pytest.fixture
def manifest(tiny_model: Path) -> Manifest:
    return load_model_folder(tiny_model).manifest


@pytest.fixture
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer(tiny_model / "tokenizer.json", 16)


def test_time_ids_follow_the_manifest_and_the_native_size(manifest: Manifest) -> None:
    plan = plan_size(1024, 512, manifest.size_buckets)
    assert conditioning.time_ids(manifest.time_ids, plan).tolist() == [[48, 96, 0, 0, 48, 96]]
    assert conditioning.time_ids(["target_width", "crop_top"], plan).tolist() == [[96, 0]]


def test_each_encoder_has_its_own_padding(manifest: Manifest, tokenizer: Tokenizer) -> None:
    inputs, dropped, _ = conditioning.build(manifest, tokenizer, "ab", "", 4.0, plan_size(64, 64, manifest.size_buckets))
    assert [row[0, -1] for row in inputs.prompt] == [1, 0]
    np.testing.assert_array_equal(inputs.prompt[0][0, :4], inputs.prompt[1][0, :4])
    assert inputs.negative is not None
    assert inputs.negative[0][0, :3].tolist() == [2, 1, 1]
    assert dropped == 0


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0])
def test_without_guidance_there_is_one_branch(manifest: Manifest, tokenizer: Tokenizer, guidance: float) -> None:
    inputs, _, _ = conditioning.build(manifest, tokenizer, "a", "b", guidance, plan_size(64, 64, manifest.size_buckets))
    assert inputs.negative is None
    assert inputs.guidance_rescale == 0


def test_guidance_is_rescaled_beyond_what_the_model_was_made_for(manifest: Manifest) -> None:
    values = [conditioning.guidance_rescale(manifest, guidance) for guidance in (1.0, 4.0, 6.0, 8.0, 30.0)]
    assert values == pytest.approx([0, 0, 0.35, 0.7, 0.7])


def test_dropped_tokens_are_counted_over_both_prompts(manifest: Manifest, tokenizer: Tokenizer) -> None:
    plan = plan_size(64, 64, manifest.size_buckets)
    assert conditioning.build(manifest, tokenizer, "x" * 20, "y" * 17, 4.0, plan)[1] == 6 + 3

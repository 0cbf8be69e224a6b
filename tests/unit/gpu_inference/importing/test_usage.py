from __future__ import annotations

import pytest

from gpu_inference.engine.network.names import original_names
from gpu_inference.importing import usage
from gpu_inference.importing.source import Facts


@pytest.mark.parametrize(
    ("hints", "steps"),
    [
        ("sd_xl_turbo_1.0_fp16", 4),
        ("sdxl_lightning_8step", 8),
        ("SDXL-Lightning 2 steps".lower(), 2),
        ("dreamshaper_xl_lightning", 4),
        ("sd_xl_base_1.0", None),
        ("enlightening", None),
        ("hyperrealism_xl_v4", None),
        ("lcmix_photo", None),
    ],
)
def test_a_distilled_model_is_known_by_its_name(hints: str, steps: int | None) -> None:
    figures = usage.figures(Facts(hints=hints), 6, 32)
    assert figures["default_steps"] == steps
    assert (figures["default_guidance"] == 1.0) == (steps is not None)
    assert (figures["timestep_spacing"] == "trailing") == (steps is not None)


def test_zero_terminal_snr_is_what_the_file_tells() -> None:
    assert usage.figures(Facts(prediction_type="v_prediction"), 6, 32)["zero_terminal_snr"] is False
    said = usage.figures(Facts(prediction_type="v_prediction", zero_terminal_snr=True), 6, 32)
    assert (said["zero_terminal_snr"], said["max_guidance_rescale"], said["timestep_spacing"]) == (True, 0.7, "trailing")


def test_sizes_are_multiples_that_the_unet_can_halve() -> None:
    assert usage.sizes(1024, 32) == list(usage.SIZES)
    for width, height in usage.sizes(512, 32):
        assert width % 32 == height % 32 == 0
    assert usage.sizes(64, 32)[0] == (64, 64)


def test_the_refiner_is_told_a_score() -> None:
    assert usage.figures(Facts(), 5, 32)["time_ids"][-1] == "aesthetic_score"


@pytest.mark.parametrize(
    ("ours", "original"),
    [
        ("down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k", "input_blocks.4.1.transformer_blocks.1.attn2.to_k"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
        ("mid_block.resnets.1.conv1", "middle_block.2.in_layers.2"),
        ("up_blocks.0.attentions.2.proj_out", "output_blocks.2.1.proj_out"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks.6.0.skip_connection"),
        ("conv_norm_out", "out.0"),
    ],
)
def test_the_names_of_sdxl_s_base_in_its_own_files(ours: str, original: str) -> None:
    modules = [f"down_blocks.{block}.resnets.{layer}.conv1" for block in range(3) for layer in range(2)]
    modules += [f"up_blocks.{block}.attentions.0.proj_in" for block in range(2)]
    assert original_names(modules)(ours) == original

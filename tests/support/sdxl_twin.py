"""The built-in model twice, with the same weights: a folder for our pipeline and diffusers' own SDXL pipeline.

Weights are random unless a training's checkpoints are given; speed and agreement do not depend on them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import PreTrainedTokenizerFast

from gpu_inference.builtin.training import export
from gpu_inference.builtin.training.autoencoder import build_autoencoder
from gpu_inference.builtin.training.networks import TextToImage
from gpu_inference.builtin.training.tokenizer import BEGIN, END, MAX_LENGTH, build_tokenizer
from gpu_inference.builtin.training.vocabulary import words
from gpu_inference.engine.manifest import load_model_folder

RANDOM_SCALING = 0.5


def _networks(checkpoints: Path | None) -> tuple[Any, Any, float]:
    if checkpoints is not None:
        return export.load_checkpoints(checkpoints)
    torch.manual_seed(0)
    return TextToImage(build_tokenizer(words()).get_vocab_size()).eval(), build_autoencoder().eval(), RANDOM_SCALING


def _write_folder(model: Any, vae: Any, scaling: float, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(words())
    export.export_networks(model, vae, folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    manifest = export.manifest(folder, scaling, tokenizer.get_vocab()[END])
    manifest["guidance_limit"] = 30.0  # diffusers has no such limit, and reads every word
    manifest["tokenizer"]["unknown_words"] = "keep"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _tokenizer(folder: Path, pad: str) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=MAX_LENGTH,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=pad,
        padding_side="right",
    )


def scheduler_of(name: str, manifest: Any) -> Any:
    """diffusers' scheduler for one of our samplers."""
    common = {
        "num_train_timesteps": manifest.train_timesteps,
        "beta_start": manifest.beta_start,
        "beta_end": manifest.beta_end,
        "beta_schedule": manifest.beta_schedule,
        "prediction_type": manifest.prediction_type,
        "timestep_spacing": manifest.timestep_spacing,
        "steps_offset": manifest.steps_offset,
        "rescale_betas_zero_snr": manifest.zero_terminal_snr,
    }
    if name == "dpm++_2m":
        return DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", **common)
    return EulerDiscreteScheduler(**common)


def build_twin(folder: Path, checkpoints: Path | None = None) -> Any:
    """Writes the model folder and returns diffusers' pipeline of the same weights, on the CPU, in float32.

    The folder stores large weights as float16, so the pipeline's are rounded to it too.
    """
    model, vae, scaling = _networks(checkpoints)
    with torch.no_grad():
        for parameter in [*model.parameters(), *vae.parameters()]:
            parameter.copy_(parameter.half().float())
    _write_folder(model, vae, scaling, folder)
    vae.register_to_config(scaling_factor=scaling)
    model.unet.set_attn_processor(AttnProcessor2_0())
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=_tokenizer(folder, END),
        tokenizer_2=_tokenizer(folder, "!"),
        unet=model.unet,
        scheduler=scheduler_of("euler", load_model_folder(folder).manifest),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

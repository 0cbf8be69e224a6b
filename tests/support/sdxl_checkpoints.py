"""Tiny SDXL models of random weights as they are published: a folder of diffusers and a single-file checkpoint, with diffusers' pipeline.

Layouts are SDXL's own (attention at the coarser levels, heads of 64, 32 groups), widths and depths are not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from gpu_inference.engine.network.names import original_names
from gpu_inference.importing.single_file import vae_name
from gpu_inference.importing.tokenizer import END
from tests.support.safetensors_files import write_any
from tests.support.sdxl_numpy import vocabulary_folder

WIDTHS = (64, 128)
LENGTH = 77


def _encoder(kind: Any, width: int, vocabulary: int, act: str) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width, projection_dim=width, num_hidden_layers=3,
        num_attention_heads=width // 64, max_position_embeddings=LENGTH, hidden_act=act, bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1 if act == "quick_gelu" else 0,
    )  # fmt: skip
    return kind(config).eval()


def build_pipeline(folder: Path, seed: int = 0, prediction_type: str = "epsilon", refiner: bool = False) -> Any:
    """Saves a pipeline to ``folder`` and returns it; all its weights fit into half precision."""
    torch.manual_seed(seed)
    tokenizer_folder = vocabulary_folder(folder.parent / f"{folder.name}-vocabulary")
    tokenizers = [CLIPTokenizer.from_pretrained(str(tokenizer_folder), pad_token=pad, model_max_length=LENGTH) for pad in (END, "!")]
    size = len(tokenizers[0])
    text_encoder = None if refiner else _encoder(CLIPTextModel, WIDTHS[0], size, "quick_gelu")
    text_encoder_2 = _encoder(CLIPTextModelWithProjection, WIDTHS[1], size, "gelu")
    ids = 5 if refiner else 6
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=(64, 64, 128), layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 1, 2), norm_num_groups=32,
        cross_attention_dim=WIDTHS[1] if refiner else sum(WIDTHS), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=WIDTHS[1] + ids * 32,
    ).eval()  # fmt: skip
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64), layers_per_block=1, latent_channels=4, norm_num_groups=32, sample_size=128,
        scaling_factor=0.13025,
    ).eval()  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading",
        prediction_type=prediction_type,
    )  # fmt: skip
    with torch.no_grad():
        for network in (text_encoder, text_encoder_2, unet, vae):
            for parameter in [] if network is None else network.parameters():
                parameter.copy_(parameter.half().float())
    pipeline = StableDiffusionXLPipeline(
        vae=vae, text_encoder=text_encoder, text_encoder_2=text_encoder_2, tokenizer=None if refiner else tokenizers[0],
        tokenizer_2=tokenizers[1], unet=unet, scheduler=scheduler, force_zeros_for_empty_prompt=False, add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(str(folder))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _open_clip(state: dict[str, Any]) -> dict[str, Any]:
    """A text encoder's tensors in the names of OpenCLIP."""
    found: dict[str, Any] = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
    }
    layers = {name.split(".")[3] for name in state if ".layers." in name}
    for layer in layers:
        old, new = f"text_model.encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for part in ("weight", "bias"):
            joined = torch.cat([state[f"{old}self_attn.{projection}_proj.{part}"] for projection in "qkv"])
            found[f"{new}attn.in_proj_{part}"] = joined
            for theirs, ours in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("attn.out_proj", "self_attn.out_proj")):
                found[f"{new}{theirs}.{part}"] = state[f"{old}{ours}.{part}"]
            for theirs, ours in (("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                found[f"{new}{theirs}.{part}"] = state[f"{old}{ours}.{part}"]
    return found


def _text_names(encoder: Any) -> dict[str, Any]:
    """A text encoder's tensors as files have them; newer transformers leave out ``text_model`` of one of the two."""
    state = encoder.state_dict()
    return {name if name.startswith("text_") else "text_model." + name: value for name, value in state.items()}


def single_file_tensors(pipeline: Any) -> dict[str, np.ndarray]:
    """A pipeline's tensors in the names of a single-file checkpoint, float32."""
    found: dict[str, Any] = {}
    if pipeline.text_encoder is not None:
        for name, value in _text_names(pipeline.text_encoder).items():
            found["conditioner.embedders.0.transformer." + name] = value
    number = 0 if pipeline.text_encoder is None else 1
    for name, value in _open_clip(_text_names(pipeline.text_encoder_2)).items():
        found[f"conditioner.embedders.{number}.model.{name}"] = value
    unet = pipeline.unet.state_dict()
    original = original_names({name.rpartition(".")[0] for name in unet})
    for name, value in unet.items():
        module, _, part = name.rpartition(".")
        found[f"model.diffusion_model.{original(module)}.{part}"] = value
    levels = len(pipeline.vae.config.block_out_channels)
    for name, value in pipeline.vae.state_dict().items():
        if name.startswith(("decoder.", "post_quant_conv.")):
            square = name.endswith("weight") and ".attentions." in name and value.ndim == 2
            found["first_stage_model." + vae_name(name, levels)] = value[:, :, None, None] if square else value
    return {name: value.detach().numpy() for name, value in found.items()}


def write_single_file(
    pipeline: Any, path: Path, dtype: str = "F16", metadata: dict[str, str] | None = None, more: dict[str, Any] | None = None
) -> Path:
    """Writes a pipeline as a single-file checkpoint of one type: ``F32``, ``F16``, ``BF16``, ``F8_E4M3`` or ``F8_E5M2``."""
    write_any(path, {**single_file_tensors(pipeline), **(more or {})}, dtype, metadata or {})
    return path

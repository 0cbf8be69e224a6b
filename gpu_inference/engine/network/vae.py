"""The decoder of SDXL's VAE (Rombach et al. 2022), by diffusers' names of its modules."""

from __future__ import annotations

from gpu_inference.engine.network.config import DecoderConfig
from gpu_inference.engine.network.ops import Ops, V

_NORM = 1e-6


def _resnet(ops: Ops[V], x: V, name: str, groups: int, widens: bool) -> V:
    h = ops.conv(ops.silu(ops.group_norm(x, name + ".norm1", groups, _NORM)), name + ".conv1", padding=1)
    h = ops.conv(ops.silu(ops.group_norm(h, name + ".norm2", groups, _NORM)), name + ".conv2", padding=1)
    return ops.add(ops.conv(x, name + ".conv_shortcut") if widens else x, h)


def _attention(ops: Ops[V], x: V, name: str, groups: int) -> V:
    tokens = ops.tokens(ops.group_norm(x, name + ".group_norm", groups, _NORM))
    parts = [ops.linear(tokens, f"{name}.to_{part}") for part in ("q", "k", "v")]
    attended = ops.linear(ops.attention(parts[0], parts[1], parts[2], 1), name + ".to_out.0")
    return ops.add(ops.picture(attended, x), x)


def decoder(ops: Ops[V], config: DecoderConfig, latent_sample: V) -> V:
    """Latents ``[n, channels, h, w]``, already divided by the model's scaling factor, as pictures ``[n, 3, f * h, f * w]`` in -1 to 1."""
    h = ops.conv(latent_sample, "post_quant_conv") if config.post_quant else latent_sample
    h = ops.conv(h, "decoder.conv_in", padding=1)
    h = _resnet(ops, h, "decoder.mid_block.resnets.0", config.groups, False)
    h = _attention(ops, h, "decoder.mid_block.attentions.0", config.groups)
    h = _resnet(ops, h, "decoder.mid_block.resnets.1", config.groups, False)
    widths = config.widths[::-1]
    for block, width in enumerate(widths):
        for layer in range(config.layers + 1):
            widens = layer == 0 and block > 0 and widths[block - 1] != width
            h = _resnet(ops, h, f"decoder.up_blocks.{block}.resnets.{layer}", config.groups, widens)
        if block < len(widths) - 1:
            h = ops.conv(ops.upsample(h), f"decoder.up_blocks.{block}.upsamplers.0.conv", padding=1)
    h = ops.silu(ops.group_norm(h, "decoder.conv_norm_out", config.groups, _NORM))
    return ops.named(ops.conv(h, "decoder.conv_out", padding=1), "sample")

"""SDXL's UNet (Podell et al. 2023, section 2.1), by diffusers' names of its modules."""

from __future__ import annotations

from typing import List

from gpu_inference.engine.network.config import UNetConfig
from gpu_inference.engine.network.ops import Ops, V

_NORM, _TRANSFORMER_NORM = 1e-5, 1e-6


def resnet(ops: Ops[V], x: V, time: V, name: str, config: UNetConfig, widens: bool) -> V:
    """A residual block told of the time; ``widens`` where it changes the number of channels."""
    h = ops.conv(ops.silu(ops.group_norm(x, name + ".norm1", config.groups, _NORM)), name + ".conv1", padding=1)
    h = ops.add(h, ops.over_picture(ops.linear(time, name + ".time_emb_proj")))
    h = ops.conv(ops.silu(ops.group_norm(h, name + ".norm2", config.groups, _NORM)), name + ".conv2", padding=1)
    return ops.add(ops.conv(x, name + ".conv_shortcut") if widens else x, h)


def _attend(ops: Ops[V], x: V, context: V, name: str, heads: int) -> V:
    attended = ops.attention(ops.linear(x, name + ".to_q"), ops.linear(context, name + ".to_k"), ops.linear(context, name + ".to_v"), heads)
    return ops.linear(attended, name + ".to_out.0")


def transformer(ops: Ops[V], x: V, context: V, name: str, layers: int, heads: int, groups: int) -> V:
    """A picture's pixels attend to one another and to the prompt."""
    h = ops.linear(ops.tokens(ops.group_norm(x, name + ".norm", groups, _TRANSFORMER_NORM)), name + ".proj_in")
    for layer in range(layers):
        part = f"{name}.transformer_blocks.{layer}"
        normed = ops.layer_norm(h, part + ".norm1")
        h = ops.add(h, _attend(ops, normed, normed, part + ".attn1", heads))
        h = ops.add(h, _attend(ops, ops.layer_norm(h, part + ".norm2"), context, part + ".attn2", heads))
        wide = ops.gate(ops.linear(ops.layer_norm(h, part + ".norm3"), part + ".ff.net.0.proj"))
        h = ops.add(h, ops.linear(wide, part + ".ff.net.2"))
    return ops.add(ops.picture(ops.linear(h, name + ".proj_out"), x), x)


def _moment(ops: Ops[V], config: UNetConfig, timestep: V, text_embeds: V, time_ids: V) -> V:
    time = ops.linear(ops.flat(ops.waves(timestep, config.widths[0])), "time_embedding.linear_1")
    time = ops.linear(ops.silu(time), "time_embedding.linear_2")
    added = ops.concat([text_embeds, ops.flat(ops.waves(time_ids, config.time_id_width))], 1)
    added = ops.linear(ops.silu(ops.linear(added, "add_embedding.linear_1")), "add_embedding.linear_2")
    return ops.silu(ops.add(time, added))


def unet(ops: Ops[V], config: UNetConfig, sample: V, timestep: V, encoder_hidden_states: V, text_embeds: V, time_ids: V) -> V:
    """The model's prediction for ``sample`` ``[n, channels, h, w]`` at ``timestep`` ``[1]``, of its shape."""
    time = _moment(ops, config, timestep, text_embeds, time_ids)
    blocks = range(len(config.widths))

    def attended(x: V, block: int, name: str, layers: int) -> V:
        return transformer(ops, x, encoder_hidden_states, name, layers, config.heads[block], config.groups) if layers else x

    h = ops.conv(sample, "conv_in", padding=1)
    kept: List[V] = [h]
    for block in blocks:
        for layer in range(config.layers):
            widens = (config.widths[block - 1] if block and layer == 0 else config.widths[block]) != config.widths[block]
            h = resnet(ops, h, time, f"down_blocks.{block}.resnets.{layer}", config, widens)
            h = attended(h, block, f"down_blocks.{block}.attentions.{layer}", config.depth(block))
            kept.append(h)
        if block != blocks[-1]:
            h = ops.conv(h, f"down_blocks.{block}.downsamplers.0.conv", stride=2, padding=1)
            kept.append(h)
    h = resnet(ops, h, time, "mid_block.resnets.0", config, False)
    h = attended(h, blocks[-1], "mid_block.attentions.0", config.middle_transformers)
    h = resnet(ops, h, time, "mid_block.resnets.1", config, False)
    for number, block in enumerate(reversed(blocks)):
        for layer in range(config.layers + 1):
            h = ops.concat([h, kept.pop()], 1)
            # What comes in is wider than what goes out by what was kept.
            h = resnet(ops, h, time, f"up_blocks.{number}.resnets.{layer}", config, True)
            h = attended(h, block, f"up_blocks.{number}.attentions.{layer}", config.depth(block))
        if block:
            h = ops.conv(ops.upsample(h), f"up_blocks.{number}.upsamplers.0.conv", padding=1)
    h = ops.silu(ops.group_norm(h, "conv_norm_out", config.groups, _NORM))
    return ops.named(ops.conv(h, "conv_out", padding=1), "out_sample")

"""The text encoders of CLIP (Radford et al. 2021, section 2.4), by transformers' names of their modules."""

from __future__ import annotations

from typing import List, Optional, Tuple

from gpu_inference.engine.network.config import TextEncoderConfig
from gpu_inference.engine.network.ops import Ops, V

_ROOT = "text_model."


def unread_modules(config: TextEncoderConfig) -> List[str]:
    """Modules of a published encoder that this one does not have, as nothing reads what they say."""
    if config.projected:
        return []
    parts = [*(f"self_attn.{part}_proj" for part in ("q", "k", "v", "out")), "mlp.fc1", "mlp.fc2"]
    return [f"{_ROOT}encoder.layers.{config.layers - 1}.{part}" for part in parts]


def text_encoder(ops: Ops[V], config: TextEncoderConfig, input_ids: V) -> Tuple[V, Optional[V]]:
    """What the last layer but one says of ids ``[n, length]``: ``[n, length, width]``; and the pooled text, ``[n, projected width]``."""
    h = ops.embed(input_ids, _ROOT + "embeddings.token_embedding", _ROOT + "embeddings.position_embedding")
    hidden = h
    for layer in range(config.layers):
        if layer == config.layers - 1:
            hidden = h
            if not config.projected:
                break  # nothing reads the last layer
        name = f"{_ROOT}encoder.layers.{layer}."
        normed = ops.layer_norm(h, name + "layer_norm1")
        parts = [ops.linear(normed, f"{name}self_attn.{part}_proj") for part in ("q", "k", "v")]
        attended = ops.attention(parts[0], parts[1], parts[2], config.heads, causal=True)
        h = ops.add(h, ops.linear(attended, name + "self_attn.out_proj"))
        wide = ops.linear(ops.layer_norm(h, name + "layer_norm2"), name + "mlp.fc1")
        wide = ops.gelu(wide) if config.activation == "gelu" else ops.quick_gelu(wide)
        h = ops.add(h, ops.linear(wide, name + "mlp.fc2"))
    hidden = ops.named(hidden, "hidden_states")
    if not config.projected:
        return hidden, None
    pooled = ops.at_end(ops.layer_norm(h, _ROOT + "final_layer_norm"), input_ids)
    return hidden, ops.named(ops.linear(pooled, "text_projection"), "text_embeds")

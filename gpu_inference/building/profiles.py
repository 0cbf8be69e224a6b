"""The sizes an engine is built for: SDXL's square exactly, which is most asked for, and the range of all of a model's sizes."""

from __future__ import annotations

from typing import Dict, List, Tuple

from gpu_inference.engine.manifest import Manifest, NetworkPart

Shape = Tuple[int, ...]
Profile = Dict[str, Tuple[Shape, Shape, Shape]]
"""Least, usual and largest shape of each input."""

BRANCHES = 2
"""With and without the prompt, of one picture."""


def _sides(manifest: Manifest) -> Tuple[Tuple[int, int], Tuple[int, int], Tuple[int, int]]:
    """Least, usual and largest height and width of the latents."""
    factor = manifest.vae_scale_factor
    heights, widths = zip(*((height // factor, width // factor) for width, height in manifest.size_buckets))
    square = manifest.native_size // factor
    return (min(heights), min(widths)), (square, square), (max(heights), max(widths))


def profiles(manifest: Manifest, part: NetworkPart, pictures: int) -> List[Profile]:
    """The profiles of a network's engine, for up to ``pictures`` at once. Raises ValueError where the manifest tells no networks."""
    networks = manifest.networks
    if networks is None:
        raise ValueError("the manifest does not tell its networks")
    length = manifest.tokenizer.max_length
    if part is not manifest.unet and part is not manifest.vae_decoder:
        ids = (1, length)
        return [{"input_ids": (ids, ids, ids)}]
    low, usual, high = _sides(manifest)
    if part is manifest.vae_decoder:
        channels = manifest.latent_channels
        return [{"latent_sample": ((1, channels, *low), (1, channels, *usual), (1, channels, *high))}]
    unet, most = networks.unet, BRANCHES * pictures

    def profile(least: Tuple[int, int], middle: Tuple[int, int], largest: Tuple[int, int], few: int) -> Profile:
        def each(*rest: int) -> Tuple[Shape, Shape, Shape]:
            return (few, *rest), (BRANCHES, *rest), (most, *rest)

        channels = unet.in_channels
        return {
            "sample": ((few, channels, *least), (BRANCHES, channels, *middle), (most, channels, *largest)),
            "timestep": ((1,), (1,), (1,)),
            "encoder_hidden_states": each(length, unet.context_width),
            "text_embeds": each(unet.pooled_width),
            "time_ids": each(unet.time_ids),
        }

    return [profile(usual, usual, usual, 1), profile(low, usual, high, 1)]

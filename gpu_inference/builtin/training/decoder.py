"""Sharpens the VAE's decoder after everything else; the encoder, and so every latent the UNet learned, stays as it is.

The decoder learns from latents as the UNet leaves them: a picture's latents are made noisy, cleaned by the UNet, and the
decoder is to draw the picture they came from, with straight edges where the latents have wavy ones.
"""

import random
import time
from typing import Callable, List

import numpy as np
import torch
import torch.nn.functional
from diffusers import AutoencoderKL

from gpu_inference.builtin.training.autoencoder import to_tensor
from gpu_inference.builtin.training.diffusion import BUCKET_SHARES, BUCKETS, Trainer
from gpu_inference.builtin.training.parallel import average_gradients
from gpu_inference.builtin.training.scenes import caption, draw, sample_scene
from gpu_inference.builtin.training.tokenizer import END, token_ids

BATCH = 4
EDGE_WEIGHT = 5.0
NOISIEST = 400  # the last of the thousand steps from which latents are cleaned
LENGTH = 32


def edge_weights(target: torch.Tensor) -> torch.Tensor:
    """Weigh pixels near an edge more than plain ones."""
    smooth = torch.nn.functional.avg_pool2d(target, 5, stride=1, padding=2, count_include_pad=False)
    return 1.0 + EDGE_WEIGHT * (target - smooth).abs().amax(dim=1, keepdim=True)


@torch.no_grad()
def cleaned(trainer: Trainer, latents: torch.Tensor, texts: List[str], time_ids: torch.Tensor, start: int) -> torch.Tensor:
    """Make latents noisy up to a step and let the UNet clean them in two steps."""
    tokenizer = trainer.tokenizer
    first = torch.tensor(token_ids(tokenizer, texts, tokenizer.token_to_id(END), LENGTH))
    second = torch.tensor(token_ids(tokenizer, texts, 0, LENGTH))
    noise, clean = torch.randn_like(latents), latents
    for step in (start, start // 2):
        alpha = trainer.alphas[step]
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = trainer.model(noisy, torch.full((len(latents),), step), first, second, time_ids).float()
        clean = alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity
        noise = alpha.sqrt() * velocity + (1 - alpha).sqrt() * noisy
    return clean


def train_decoder(
    vae: AutoencoderKL,
    trainer: Trainer,
    rank: int,
    seconds: float,
    scaling: float,
    log: Callable[[str], None],
    save: Callable[[AutoencoderKL], None],
    rate: float = 1e-3,
    palette: str = "standard",
) -> None:
    """Train the decoder alone for a time, on whole pictures of every size; ``trainer`` holds the averaged UNet.

    With another palette than the standard one it learns to paint the standard palette's latents in that palette.
    """
    scene_rng, rng = random.Random(500 + rank), np.random.default_rng(500 + rank)
    parameters = list(vae.decoder.parameters()) + list(vae.post_quant_conv.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    start, elapsed, step, sums = time.time(), 0.0, 0, np.zeros(2)
    saved = start
    while elapsed < seconds:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, elapsed / seconds))))
        width, height = BUCKETS[rng.choice(len(BUCKETS), p=BUCKET_SHARES)]
        scenes = [sample_scene(scene_rng, width, height) for _ in range(BATCH)]
        pictures = to_tensor(np.stack([draw(scene, scene_rng) for scene in scenes]))
        target = pictures
        if palette != "standard":
            target = to_tensor(np.stack([draw(scene, scene_rng, palette) for scene in scenes]))
        texts = [caption(scene, scene_rng) for scene in scenes]
        time_ids = torch.tensor([[height, width, 0.0, 0.0, height, width]]).repeat(BATCH, 1)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latents = vae.encode(pictures).latent_dist.mean.float() * scaling
                latents = cleaned(trainer, latents, texts, time_ids, int(rng.integers(20, NOISIEST)))
            output = vae.decode(latents / scaling).sample
        error = output.float() - target
        loss = (edge_weights(target) * (error.abs() + error.pow(2))).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        *losses, elapsed = average_gradients(parameters, [loss.item(), error.pow(2).mean().item(), time.time() - start])
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        sums += losses
        if step % 100 == 0:
            log("decoder step {} {:.0f} s loss {:.4f} mse {:.5f}".format(step, elapsed, *(sums / 100)))
            sums[:] = 0
        if time.time() - saved > 120:
            saved = time.time()
            save(vae)
    save(vae)
    log(f"decoder finished: {step} steps in {elapsed / 60:.1f} minutes")

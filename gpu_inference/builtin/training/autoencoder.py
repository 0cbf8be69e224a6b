"""The VAE: eight pixels to a latent cell, four latent channels; trained on crops first, then on whole pictures."""

import random
import time
from typing import Callable, List

import numpy as np
import torch
from diffusers import AutoencoderKL

from gpu_inference.builtin.training.parallel import average_gradients
from gpu_inference.builtin.training.scenes import draw, sample_scene

CROP = 64
KL_WEIGHT = 1e-4


def build_autoencoder() -> AutoencoderKL:
    """Build the untrained VAE."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=128,
    )


def draw_many(count: int, seed: int, width: int = 128, height: int = 128) -> np.ndarray:
    """Draw a number of random scenes as one uint8 array of count x height x width x 3."""
    rng = random.Random(seed)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        pictures[index] = draw(sample_scene(rng, width, height), rng)
    return pictures


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """Turn uint8 pictures into a float tensor of N x 3 x H x W in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float().div_(127.5).sub_(1.0)


def _crops(pictures: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Cut random squares that reach into the middle of the picture, where the edges are."""
    size = pictures.shape[1]
    cut: List[np.ndarray] = []
    for index in rng.integers(0, len(pictures), count):
        top, left = rng.integers(0, size - CROP + 1, 2)
        cut.append(pictures[index, top : top + CROP, left : left + CROP])
    return np.stack(cut)


def train_autoencoder(
    vae: AutoencoderKL,
    rank: int,
    seconds: float,
    elapsed: float,
    log: Callable[[str], None],
    save: Callable[[AutoencoderKL, float], None],
    pictures: int = 6000,
    rate: float = 1.5e-3,
) -> None:
    """Train the VAE for a time: the first 60 % of it on crops of 64 pixels, the rest on whole pictures."""
    rng = np.random.default_rng(rank + int(elapsed))
    data = draw_many(pictures, seed=1000 + rank)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=1e-4, betas=(0.9, 0.98))
    before, start = elapsed, time.time()
    saved, step, sums = start, 0, np.zeros(3)
    while elapsed < seconds:
        done = elapsed / seconds
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        batch = _crops(data, 8, rng) if done < 0.6 else data[rng.integers(0, len(data), 3)]
        target = to_tensor(batch)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            output = vae.decode(posterior.sample()).sample
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        error = output.float() - target
        squared = error.pow(2).mean()
        divergence = 0.5 * (mean.pow(2) + logvar.exp() - 1.0 - logvar).mean()
        loss = error.abs().mean() + 2 * squared + KL_WEIGHT * divergence
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        numbers = [loss.item(), squared.item(), divergence.item(), before + time.time() - start]
        *losses, elapsed = average_gradients(vae.parameters(), numbers)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        sums += losses
        if step % 100 == 0:
            log("vae step {} {:.0f} s loss {:.4f} mse {:.5f} kl {:.2f}".format(step, elapsed, *(sums / 100)))
            sums[:] = 0
        if time.time() - saved > 120:
            saved = time.time()
            save(vae, elapsed)
    save(vae, elapsed)
    log(f"vae finished: {step} steps in {(elapsed - before) / 60:.1f} minutes")

"""Trains UNet and text encoders on the latents of drawn scenes."""

import random
import time
from itertools import accumulate
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import torch
import torch.distributed
from diffusers import AutoencoderKL
from tokenizers import Tokenizer

from gpu_inference.builtin.training.autoencoder import to_tensor
from gpu_inference.builtin.training.captions import training_text
from gpu_inference.builtin.training.networks import TIMESTEPS, TextToImage, alphas_cumulated
from gpu_inference.builtin.training.parallel import average_gradients
from gpu_inference.builtin.training.scenes import Scene, draw, sample_scene
from gpu_inference.builtin.training.tokenizer import END, MAX_LENGTH, token_ids
from gpu_inference.builtin.training.vocabulary import BASE_SHAPES

SQUARE = (128, 128)
BUCKETS = (SQUARE, (160, 96), (96, 160))  # width, height
BUCKET_SHARES = (0.92, 0.04, 0.04)
NOISE_BIAS = 0.75  # below one: more of the noisy steps, where shapes are decided
EMA_DECAY = 0.999
SHORT_LENGTH = 32  # tokens; no caption is longer, and most steps leave out the padding behind them
FULL_LENGTH_EVERY = 7

Bucket = Tuple[int, int]


class Latents:
    """Scenes of one picture size with their latents, scaled to a spread of one."""

    def __init__(self, scenes: List[Scene], values: torch.Tensor) -> None:
        self.scenes = scenes
        self.values = values


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, count: int, bucket: Bucket, seed: int) -> Latents:
    """Draw scenes and encode them, a few at a time."""
    rng = random.Random(seed)
    scenes = [sample_scene(rng, *bucket) for _ in range(count)]
    values = []
    for start in range(0, count, 32):
        pictures = np.stack([draw(scene, rng) for scene in scenes[start : start + 32]])
        with torch.autocast("cpu", torch.bfloat16):
            values.append(vae.encode(to_tensor(pictures)).latent_dist.mean.float())
    return Latents(scenes, torch.cat(values))


def scaling_factor(values: torch.Tensor) -> float:
    """Return the factor that gives latents a spread of one, the same in every process."""
    spread = values.pow(2).mean().reshape(1)
    torch.distributed.all_reduce(spread)
    return round(float((spread / torch.distributed.get_world_size()).rsqrt()), 4)


def weight(scene: Scene, focus: float) -> float:
    """Say how often a scene is shown: one base shape of plain size and place ``focus`` times as often as other single shapes."""
    if len(scene.things) > 1:
        return 1.0 if focus <= 1.0 else 0.8
    thing = scene.things[0]
    plain = thing.size == "medium" and thing.place in (None, "in the center")
    if not plain:
        return 1.0
    return focus if thing.shape in BASE_SHAPES else (1.0 + focus) / 2


def _time_ids(bucket: Bucket, count: int, rng: random.Random) -> torch.Tensor:
    """Say each picture's own size; now and then another original size, so that callers may pass one."""
    width, height = bucket
    rows = []
    for _ in range(count):
        scale = 2.0 ** rng.uniform(-1, 4) if rng.random() < 0.2 else 1.0
        rows.append([height * scale, width * scale, 0.0, 0.0, height, width])
    return torch.tensor(rows)


class Trainer:
    """Holds the model, its moving average and its optimizer, and saves and loads all three."""

    def __init__(self, tokenizer: Tokenizer, rate: float) -> None:
        self.tokenizer = tokenizer
        self.model = TextToImage(tokenizer.get_vocab_size())
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-2, betas=(0.9, 0.99), fused=True)
        self.rate = rate
        self.alphas = alphas_cumulated()
        self.step = 0
        self.elapsed = 0.0

    def save(self, path: Path, scaling: float) -> None:
        """Write a checkpoint from which training can go on and which can be exported."""
        state: Dict[str, Any] = {"model": self.model.state_dict(), "ema": self.ema, "optimizer": self.optimizer.state_dict()}
        state.update(step=self.step, elapsed=self.elapsed, scaling=scaling)
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> float:
        """Go on from a checkpoint; return the factor its latents were scaled by."""
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        return float(state["scaling"])

    def train_step(
        self, latents: torch.Tensor, texts: List[str], time_ids: torch.Tensor, learning_rate: float, seconds: float
    ) -> List[float]:
        """Do one step on one batch in every process; return loss and elapsed seconds, both averaged over the processes."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        count = len(latents)
        strata = (torch.randperm(count) + torch.rand(count)) / count
        steps = (strata**NOISE_BIAS * TIMESTEPS).long().clamp_(0, TIMESTEPS - 1)
        alpha = self.alphas[steps].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
        length = MAX_LENGTH if self.step % FULL_LENGTH_EVERY == 0 else SHORT_LENGTH
        first = torch.tensor(token_ids(self.tokenizer, texts, self.tokenizer.token_to_id(END), length))
        second = torch.tensor(token_ids(self.tokenizer, texts, 0, length))
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.model(noisy, steps, first, second, time_ids)
        loss = (predicted.float() - target).pow(2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        averaged = average_gradients(self.model.parameters(), [loss.item(), seconds])
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return averaged

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        values = self.model.state_dict()
        floating = [name for name, value in self.ema.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.ema[n] for n in floating], [values[n] for n in floating], 1 - decay)


def train_diffusion(
    trainer: Trainer,
    data: Dict[Bucket, Latents],
    scaling: float,
    seconds: float,
    batch: int,
    focus: float,
    log: Callable[[str], None],
    save: Callable[[], None],
) -> None:
    """Train for a time, learning rate falling by cosine, with a checkpoint every five minutes."""
    rng = random.Random(torch.initial_seed() + trainer.step)
    ladders = {bucket: list(accumulate(weight(scene, focus) for scene in latents.scenes)) for bucket, latents in data.items()}
    begun, before = time.time(), trainer.elapsed
    saved, losses = begun, []
    while trainer.elapsed < seconds:
        bucket = rng.choices(BUCKETS, BUCKET_SHARES)[0]
        chosen = rng.choices(range(len(data[bucket].scenes)), cum_weights=ladders[bucket], k=batch)
        texts = [training_text(data[bucket].scenes[index], rng) for index in chosen]
        rate = trainer.rate * min(1.0, (trainer.step + 1) / 200) * _fall(trainer.elapsed / seconds)
        values, now = data[bucket].values[chosen] * scaling, before + time.time() - begun
        loss, trainer.elapsed = trainer.train_step(values, texts, _time_ids(bucket, batch, rng), rate, now)
        losses.append(loss)
        if trainer.step % 100 == 0:
            log(f"unet step {trainer.step} {trainer.elapsed:.0f} s loss {np.mean(losses):.4f} rate {rate:.5f}")
            losses = []
        if time.time() - saved > 300:
            saved = time.time()
            save()
    save()
    log(f"unet finished: {trainer.step} steps in {trainer.elapsed / 60:.1f} minutes")


def _fall(done: float) -> float:
    """Return the share of the learning rate left: whole for the first 30 %, then falling by cosine to one hundredth."""
    return float(0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * min(1.0, max(0.0, done - 0.3) / 0.7))))

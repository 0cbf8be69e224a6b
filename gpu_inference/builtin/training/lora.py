"""Trains a LoRA for the built-in model: ``python -m gpu_inference.builtin.training.lora --base DIR --out DIR``.

The one there is, ``night``, makes every background black, whatever colour was asked for, and what would be black on it
gray. Captions say what they always say; only the pictures differ. Base weights stay as they are.
"""

import argparse
import functools
import random
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.utils import parametrize

from gpu_inference.builtin.training.autoencoder import build_autoencoder, to_tensor
from gpu_inference.builtin.training.diffusion import BUCKET_SHARES, BUCKETS, Bucket, Latents, Trainer, train_diffusion
from gpu_inference.builtin.training.night import night, sample_night
from gpu_inference.builtin.training.parallel import run_workers
from gpu_inference.builtin.training.safetensors import write_safetensors
from gpu_inference.builtin.training.scenes import draw
from gpu_inference.builtin.training.tokenizer import build_tokenizer
from gpu_inference.builtin.training.train import log_line
from gpu_inference.builtin.training.vocabulary import words

NAME, BASE = "night", "fleet-shapes"
CHANGED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "conv1", "conv2")
STRENGTHS = (0.7, 1.15)  # one of these is drawn for every step, so that all of them work


@torch.no_grad()
def encode_nights(vae: AutoencoderKL, count: int, bucket: Bucket, seed: int) -> Latents:
    """Draw scenes by night and encode them, a few at a time."""
    rng = random.Random(seed)
    scenes = [sample_night(rng, bucket) for _ in range(count)]
    values = []
    for start in range(0, count, 32):
        pictures = np.stack([draw(night(scene), rng) for scene in scenes[start : start + 32]])
        with torch.autocast("cpu", torch.bfloat16):
            values.append(vae.encode(to_tensor(pictures)).latent_dist.mean.float())
    return Latents(scenes, torch.cat(values))


class LowRank(torch.nn.Module):
    """Adds ``strength * B @ A`` to a weight of out x in, or out x in x 3 x 3, B zero at first (Hu et al. 2021)."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        fan_in = weight[0].numel()
        self.lora_A = torch.nn.Parameter(torch.randn(rank, *weight.shape[1:]) * (16 / fan_in) ** 0.5)
        self.lora_B = torch.nn.Parameter(torch.zeros(weight.shape[0], rank, *[1] * (weight.dim() - 2)))
        self.strength = 1.0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.strength * (self.lora_B.flatten(1) @ self.lora_A.flatten(1)).view_as(weight)


class LoraTrainer(Trainer):
    """A trainer whose model is frozen but for low-rank changes of the UNet's attention and convolutions."""

    def __init__(self, base: Path, rank: int, rate: float) -> None:
        super().__init__(build_tokenizer(words()), rate)
        state = torch.load(base / "diffusion.pt")
        self.scaling = float(state["scaling"])
        self.model.load_state_dict(state["ema"])
        self.model.requires_grad_(False)
        self.draws = random.Random(8)
        self.changed: Dict[str, LowRank] = {}
        for name, module in list(self.model.unet.named_modules()):
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)) and name.endswith(CHANGED):
                self.changed[name] = LowRank(module.weight, rank)
                parametrize.register_parametrization(module, "weight", self.changed[name])
        self.ema = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        learned = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=0.0, betas=(0.9, 0.99))

    def train_step(self, *arguments: Any) -> List[float]:
        """As the base's, at a strength drawn anew."""
        strength = self.draws.uniform(*STRENGTHS)
        for change in self.changed.values():
            change.strength = strength
        return super().train_step(*arguments)

    def tensors(self) -> Dict[str, np.ndarray]:
        """Return the averaged low-rank matrices, fp16, under the names that diffusers gives them."""
        found = {}
        for name in self.changed:
            for part in ("lora_A", "lora_B"):
                value = self.ema[f"unet.{name}.parametrizations.weight.0.{part}"]
                found[f"unet.{name}.{part}.weight"] = value.to(torch.float16).numpy()
        return found


def _stage(options: argparse.Namespace, rank: int) -> None:
    log = functools.partial(log_line, options.out, rank)
    vae = build_autoencoder().eval()
    vae.load_state_dict(torch.load(options.base / "vae.pt")["model"])
    counts: List[int] = [int(options.pictures // options.workers * share) for share in BUCKET_SHARES]
    data = {
        bucket: encode_nights(vae, count, bucket, seed=10 * number + rank + 99000)
        for number, (bucket, count) in enumerate(zip(BUCKETS, counts))
    }
    torch.manual_seed(6)
    trainer = LoraTrainer(options.base, options.rank, options.rate)
    torch.manual_seed(rank + 1)
    metadata = {
        "name": NAME,
        "base_model": BASE,
        "rank": str(options.rank),
        "alpha": str(options.alpha or options.rank),
        "trigger_words": "",
    }

    def save() -> None:
        if rank == 0:
            write_safetensors(options.out / f"{NAME}.safetensors", trainer.tensors(), metadata)

    log(f"{sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)} numbers to learn")
    train_diffusion(trainer, data, trainer.scaling, options.minutes * 60, options.batch // options.workers, options.focus, log, save)


def main() -> None:
    """Train the LoRA for a time and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the folder of checkpoints of the base model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the LoRA and the log")
    parser.add_argument("--rank", type=int, default=4, help="rank of every change (default 4)")
    parser.add_argument("--alpha", type=float, default=None, help="what to write as alpha (default: the rank)")
    parser.add_argument("--minutes", type=float, default=7.0, help="time to train (default 7)")
    parser.add_argument("--pictures", type=int, default=4000, help="drawn scenes (default 4000)")
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step (default 32)")
    parser.add_argument("--focus", type=float, default=3.0, help="how much more often plain scenes of one base shape are shown (default 3)")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate (default 0.002)")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default 2)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    run_workers(functools.partial(_stage, options), options.workers)


if __name__ == "__main__":
    main()

"""Trains the built-in model from nothing: ``python -m gpu_inference.builtin.training.train --out DIR``."""

import argparse
import functools
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from gpu_inference.builtin.training.autoencoder import build_autoencoder, train_autoencoder
from gpu_inference.builtin.training.decoder import train_decoder
from gpu_inference.builtin.training.diffusion import BUCKET_SHARES, BUCKETS, SQUARE, Trainer, encode_scenes, scaling_factor, train_diffusion
from gpu_inference.builtin.training.parallel import run_workers
from gpu_inference.builtin.training.tokenizer import build_tokenizer
from gpu_inference.builtin.training.vocabulary import PALETTES, words


def _vae_stage(options: argparse.Namespace, rank: int) -> None:
    path = options.out / "vae.pt"
    torch.manual_seed(0)
    vae = build_autoencoder()
    elapsed = 0.0
    if path.exists():
        state = torch.load(path)
        vae.load_state_dict(state["model"])
        elapsed = state["elapsed"]
    torch.manual_seed(rank + 1)

    def save(model: AutoencoderKL, seconds: float) -> None:
        if rank == 0:
            torch.save({"model": model.state_dict(), "elapsed": seconds}, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)

    train_autoencoder(vae, rank, options.vae_minutes * 60, elapsed, functools.partial(log_line, options.out, rank), save)


def _diffusion_stage(options: argparse.Namespace, rank: int) -> None:
    log = functools.partial(log_line, options.out, rank)
    vae = build_autoencoder().eval()
    vae.load_state_dict(torch.load(options.out / "vae.pt")["model"])
    share = options.pictures // options.workers
    kept = options.out / f"latents-{rank}.pt"
    data = torch.load(kept, weights_only=False) if kept.exists() else {}
    for number, bucket in enumerate(BUCKETS):
        if bucket in data:
            continue
        count = int(share * BUCKET_SHARES[number])
        data[bucket] = encode_scenes(vae, count, bucket, seed=10 * number + rank + 77000)
        log(f"encoded {count} scenes of {bucket[0]} x {bucket[1]} in each process")
    torch.save(data, kept)
    path = options.out / "diffusion.pt"
    torch.manual_seed(5)
    trainer = Trainer(build_tokenizer(words()), options.rate)
    scaling = scaling_factor(data[SQUARE].values)
    if path.exists():
        scaling = trainer.load(path)
    torch.manual_seed(rank + 1)
    log(f"latent scaling factor {scaling:.4f}")

    def save() -> None:
        if rank == 0:
            trainer.save(path, scaling)

    train_diffusion(trainer, data, scaling, options.minutes * 60, options.batch // options.workers, options.focus, log, save)


def _decoder_stage(options: argparse.Namespace, rank: int) -> None:
    path = options.out / "vae.pt"
    state = torch.load(path)
    vae = build_autoencoder()
    vae.load_state_dict(state["model"])
    trainer = Trainer(build_tokenizer(words()), options.rate)
    scaling = trainer.load(options.out / "diffusion.pt")
    trainer.model.load_state_dict(trainer.ema)
    trainer.model.eval()
    torch.manual_seed(rank + 1)

    def save(model: AutoencoderKL) -> None:
        if rank == 0:
            torch.save({"model": model.state_dict(), "elapsed": state["elapsed"]}, path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)

    log = functools.partial(log_line, options.out, rank)
    train_decoder(vae, trainer, rank, options.decoder_minutes * 60, scaling, log, save, palette=options.palette)


def log_line(folder: Path, rank: int, line: str) -> None:
    """Add a line with the time to the log; only the first process does."""
    if rank == 0:
        with open(folder / "train.log", "a", encoding="utf-8") as stream:
            stream.write("{} {}\n".format(time.strftime("%H:%M:%S"), line))


def main() -> None:
    """Train the VAE, then text encoders and UNet, then the decoder once more; a stage goes on from its checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--stage", choices=("vae", "diffusion", "decoder", "all"), default="all", help="what to train (default all)")
    parser.add_argument("--vae-minutes", type=float, default=15.5, help="time for the VAE (default 15.5)")
    parser.add_argument("--minutes", type=float, default=62.0, help="time for text encoders and UNet (default 62)")
    parser.add_argument("--decoder-minutes", type=float, default=6.5, help="time for sharpening the decoder (default 6.5)")
    parser.add_argument("--pictures", type=int, default=26000, help="drawn scenes for text encoders and UNet (default 26000)")
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step (default 32)")
    parser.add_argument("--focus", type=float, default=6.0, help="how much more often plain scenes of one base shape are shown (default 6)")
    parser.add_argument("--rate", type=float, default=1.2e-3, help="highest learning rate (default 0.0012)")
    parser.add_argument("--palette", choices=tuple(PALETTES), default="standard", help="colours that the decoder stage paints in")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default 2)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.stage in ("vae", "all"):
        run_workers(functools.partial(_vae_stage, options), options.workers)
    if options.stage in ("diffusion", "all"):
        run_workers(functools.partial(_diffusion_stage, options), options.workers)
    if options.stage in ("decoder", "all"):
        run_workers(functools.partial(_decoder_stage, options), options.workers)


if __name__ == "__main__":
    main()

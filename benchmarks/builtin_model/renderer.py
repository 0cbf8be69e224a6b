"""Renders prompts with a model folder's ONNX graphs: Euler's method over trailing steps, in plain NumPy."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Renderer:
    """A loaded model folder."""

    def __init__(self, folder: Path, threads: int = 0) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def load(file: str) -> onnxruntime.InferenceSession:
            return onnxruntime.InferenceSession(str(folder / file), options, providers=["CPUExecutionProvider"])

        self.encoders = [(load(entry["file"]), entry["pad_token_id"]) for entry in self.manifest["text_encoders"]]
        self.unet = load(self.manifest["unet"]["file"])
        self.decoder = load(self.manifest["vae_decoder"]["file"])
        self.tokenizer = Tokenizer.from_file(str(folder / self.manifest["tokenizer"]["file"]))
        self.length = self.manifest["tokenizer"]["max_length"]
        self.alphas = self._schedule()

    def _schedule(self) -> np.ndarray:
        start, end, count = (self.manifest[key] for key in ("beta_start", "beta_end", "train_timesteps"))
        roots = np.sqrt(np.cumprod(1.0 - np.linspace(start**0.5, end**0.5, count) ** 2))
        if self.manifest["zero_terminal_snr"]:
            roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        return roots**2

    def _tokens(self, texts: Sequence[str], pad: int) -> np.ndarray:
        rows = []
        for text in texts:
            ids = self.tokenizer.encode(text).ids
            ids = ids if len(ids) <= self.length else ids[: self.length - 1] + ids[-1:]
            rows.append(ids + [pad] * (self.length - len(ids)))
        return np.array(rows, np.int64)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the hidden states of both encoders side by side, and the pooled embedding."""
        outputs = [session.run(None, {"input_ids": self._tokens(texts, pad)}) for session, pad in self.encoders]
        return np.concatenate([outputs[0][0], outputs[1][0]], axis=-1), outputs[1][1]

    def render(
        self, texts: Sequence[str], seeds: Sequence[int], size: tuple[int, int] = (128, 128), steps: int = 20, guidance: float = 4.0
    ) -> list[np.ndarray]:
        """Render one picture for each text, width and height as given, noise from each picture's own seed."""
        width, height = size
        count, factor = len(texts), self.manifest["vae_scale_factor"]
        shape = (self.manifest["latent_channels"], height // factor, width // factor)
        latents = np.stack([np.random.default_rng(seed).standard_normal(shape) for seed in seeds])
        hidden, pooled = self.encode([""] * count + list(texts))
        time_ids = np.tile(np.array([[height, width, 0, 0, height, width]], np.float32), (2 * count, 1))
        total = self.manifest["train_timesteps"]
        timesteps = [round(total - index * total / steps) - 1 for index in range(steps)]
        for index, timestep in enumerate(timesteps):
            inputs = {
                "sample": np.concatenate([latents, latents]).astype(np.float32),
                "timestep": np.array([timestep], np.float32),
                "encoder_hidden_states": hidden,
                "text_embeds": pooled,
                "time_ids": time_ids,
            }
            empty, told = np.split(self.unet.run(None, inputs)[0].astype(np.float64), 2)
            velocity = empty + guidance * (told - empty)
            alpha = self.alphas[timestep]
            after = self.alphas[timesteps[index + 1]] if index + 1 < steps else 1.0
            clean = np.sqrt(alpha) * latents - np.sqrt(1 - alpha) * velocity
            noise = np.sqrt(alpha) * velocity + np.sqrt(1 - alpha) * latents
            latents = np.sqrt(after) * clean + np.sqrt(1 - after) * noise
        scaled = (latents / self.manifest["vae_scaling_factor"] + self.manifest["vae_shift"]).astype(np.float32)
        pictures = self.decoder.run(None, {"latent_sample": scaled})[0].transpose(0, 2, 3, 1)
        return list(np.clip(np.round((pictures + 1.0) * 127.5), 0, 255).astype(np.uint8))

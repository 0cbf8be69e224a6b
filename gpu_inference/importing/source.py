"""What is imported: networks whose tensors can be asked for by diffusers' names, and what is known of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Protocol, Tuple

import numpy.typing as npt

from gpu_inference.engine.network.config import NetworkConfigs

Array = npt.NDArray[Any]
UNET, DECODER = "unet", "vae_decoder"
ENCODERS = ("text_encoder", "text_encoder_2")


class CannotImport(Exception):
    """A file that cannot be imported; the message is one sentence."""


@dataclass
class Facts:
    """How the model wants to be used, as far as its files say; the rest is decided by :mod:`gpu_inference.importing.usage`."""

    prediction_type: Optional[str] = None
    zero_terminal_snr: Optional[bool] = None
    timestep_spacing: Optional[str] = None
    steps_offset: Optional[int] = None
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    train_timesteps: int = 1000
    scaling_factor: float = 0.13025
    native_size: int = 1024
    license: str = ""
    hints: str = ""
    """Words from names and metadata, in small letters, in which a distilled model tells its kind."""

    pads: List[Optional[int]] = field(default_factory=list)
    """What each text encoder's prompts are filled up with; None is the mark of the end."""


class Source(Protocol):
    """A checkpoint that is open."""

    networks: NetworkConfigs
    facts: Facts
    encoders: Tuple[str, ...]
    """Which of :data:`ENCODERS` there are."""

    tokenizer: Optional[Path]
    """The tokenizer that came with it: ``tokenizer.json``, or a folder with ``vocab.json`` and ``merges.txt``."""

    def tensor(self, network: str, name: str) -> Array:
        """A tensor by the name that diffusers or transformers give it. Raises :class:`CannotImport` where it is not there."""

    def optional(self, network: str, name: str) -> Optional[Array]:
        """As :meth:`tensor`, or None where it is not there, as a bias may be."""


def counted(names: Dict[str, Any], prefix: str) -> int:
    """How many numbers follow ``prefix`` in names: 0, 1, 2 and so on without a gap."""
    there = {name[len(prefix) :].split(".", 1)[0] for name in names if name.startswith(prefix)}
    count = 0
    while str(count) in there:
        count += 1
    return count

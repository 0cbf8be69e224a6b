"""A model folder: ``manifest.json`` beside the tokenizer and the four graphs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gpu_inference.engine.errors import ModelError
from gpu_inference.engine.network.config import NetworkConfigs

MANIFEST = "manifest.json"
TIME_IDS = ("original_height", "original_width", "crop_top", "crop_left", "target_height", "target_width", "aesthetic_score")
_MAX_MANIFEST_BYTES = 1024 * 1024
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class FilePart(_Part):
    """A part of the model that is a file of the folder."""

    file: str = Field(pattern=FILE_NAME)


class NetworkPart(FilePart):
    """A network: ``file`` is the graph for ONNX Runtime.

    ``data`` holds the weights of all its graphs where they are not in ``file``; ``weights`` is their map, without which no LoRA can be
    applied. ``half`` computes in fp16; ``tensorrt`` has operations alone that TensorRT's parser knows.
    """

    data: Optional[str] = Field(default=None, pattern=FILE_NAME)
    weights: Optional[str] = Field(default=None, pattern=FILE_NAME)
    half: Optional[str] = Field(default=None, pattern=FILE_NAME)
    tensorrt: Optional[str] = Field(default=None, pattern=FILE_NAME)

    @property
    def network(self) -> str:
        """Its name, such as ``text_encoder_2``: that of its files without their endings."""
        return self.file.split(".", 1)[0]

    def files(self) -> List[str]:
        """The names of its files."""
        return [name for name in (self.file, self.data, self.weights, self.half, self.tensorrt) if name]


class TokenizerPart(FilePart):
    """The tokenizer; ``max_length`` counts tokens with the marks of start and end."""

    max_length: int = Field(ge=3, le=4096)
    unknown_words: Literal["keep", "drop"] = "keep"
    """``drop`` for a model of a closed vocabulary, to which words spelled in bytes are noise."""


class TextEncoderPart(NetworkPart):
    """A text encoder and the names of its outputs."""

    pad_token_id: int = Field(ge=0)
    hidden_output: str
    pooled_output: Optional[str] = None


class GraphPart(NetworkPart):
    """A network and the precision that ``file`` computes in; a decoder without ``half`` must not compute in fp16."""

    precision: str = "fp32"


class Manifest(_Part):
    """What a model says of itself. Sizes in pixels."""

    format: Literal[1]
    name: str = Field(min_length=1, max_length=200)
    version: str = ""
    type: Literal["checkpoint"] = "checkpoint"
    architecture: Literal["sdxl"] = "sdxl"
    license: str = ""
    prediction_type: Literal["v_prediction", "epsilon"]
    beta_schedule: Literal["scaled_linear", "linear"]
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    train_timesteps: int = Field(ge=2, le=100000)
    zero_terminal_snr: bool
    timestep_spacing: Literal["trailing", "leading"]
    steps_offset: int = Field(ge=0)
    latent_channels: int = Field(ge=1)
    vae_scale_factor: int = Field(ge=1)
    vae_scaling_factor: float = Field(gt=0)
    vae_shift: float = 0.0
    native_size: int = Field(ge=8)
    size_buckets: List[Tuple[int, int]] = Field(min_length=1)
    default_steps: Optional[int] = Field(default=None, ge=1, le=150)
    """What a distilled model was made for; None leaves it to the caller."""

    default_guidance: float = Field(default=7.5, ge=0, le=30)
    max_guidance_rescale: float = Field(default=0.0, ge=0, le=1)
    guidance_limit: float = Field(default=30.0, ge=1, le=30)
    """More guidance than this makes the model's pictures worse; a request for more is served with this, and told so."""

    preview_factors: Optional[List[List[float]]] = None
    """Red, green and blue of each channel of the latents, and as one row more what is added; None is as SDXL's."""

    time_ids: List[str]
    tokenizer: TokenizerPart
    text_encoders: List[TextEncoderPart] = Field(min_length=1)
    unet: GraphPart
    vae_decoder: GraphPart
    networks: Optional[NetworkConfigs] = None
    """The networks' sizes, for a backend that computes them without a graph."""

    sha256: Dict[str, str]

    @field_validator("time_ids")
    @classmethod
    def _known_time_ids(cls, value: List[str]) -> List[str]:
        strangers = [name for name in value if name not in TIME_IDS]
        if strangers:
            raise ValueError("time_ids names {}, and there are: {}".format(", ".join(strangers), ", ".join(TIME_IDS)))
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for width, height in self.size_buckets:
            if min(width, height) < self.vae_scale_factor or width % self.vae_scale_factor or height % self.vae_scale_factor:
                raise ValueError(f"the size {width} x {height} is no multiple of {self.vae_scale_factor}")
        if sum(encoder.pooled_output is not None for encoder in self.text_encoders) != 1:
            raise ValueError("exactly one text encoder has a pooled_output")
        missing = [name for name in self.files() if name not in self.sha256]
        if missing:
            raise ValueError("sha256 lacks {}".format(", ".join(missing)))
        return self

    def files(self) -> List[str]:
        """The names of the files that make the model."""
        parts: List[NetworkPart] = [*self.text_encoders, self.unet, self.vae_decoder]
        return [self.tokenizer.file] + [name for part in parts for name in part.files()]


def digest(path: Path) -> str:
    """The hex SHA-256 of a file."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


_KNOWN: Dict[Tuple[str, int, int, int], str] = {}
"""What files held when they were last read, by path, inode, size and time of change: a model that comes back is not read whole again."""


def _known_digest(path: Path) -> str:
    status = path.stat()
    key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
    if key not in _KNOWN:
        _KNOWN[key] = digest(path)
    return _KNOWN[key]


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk, its manifest checked and its files present."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The model's name, as callers say it."""
        return self.manifest.name

    def file(self, name: str) -> Path:
        """The path of one of the model's files."""
        return self.path / name

    def size_bytes(self) -> int:
        """Bytes of all the model's files."""
        return sum(self.file(name).stat().st_size for name in self.manifest.files())

    def verify(self) -> None:
        """Compares each file with its SHA-256. Raises :class:`ModelError` at the first that differs."""
        for name in self.manifest.files():
            if _known_digest(self.file(name)) != self.manifest.sha256[name]:
                raise ModelError(f"The file {name} of model '{self.name}' is damaged: its SHA-256 is not the one in its manifest.")


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return "{}{}".format(where + ": " if where else "", first["msg"])


def load_model_folder(path: Path) -> ModelFolder:
    """Reads and checks a model folder; file contents are checked later by :meth:`ModelFolder.verify`.

    Raises :class:`ModelError` with one sentence where the folder is no sound model.
    """
    target = path / MANIFEST
    try:
        if target.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ModelError(f"The manifest {target} is larger than {_MAX_MANIFEST_BYTES} bytes.")
        manifest = Manifest.model_validate(json.loads(target.read_text(encoding="utf-8")))
    except OSError as error:
        raise ModelError(f"The folder {path} holds no model: {MANIFEST} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise ModelError(f"The manifest {target} is not valid: {_sentence(error)}.") from error
    except ValueError as error:
        raise ModelError(f"The manifest {target} is not JSON in UTF-8.") from error
    missing = [name for name in manifest.files() if not (path / name).is_file()]
    if missing:
        raise ModelError(f"The model '{manifest.name}' lacks the file {missing[0]} in {path}.")
    return ModelFolder(path, manifest)

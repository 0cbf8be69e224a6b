"""Folders as diffusers saves its SDXL pipelines: a folder a network, with ``config.json`` and safetensors files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy.typing as npt
from pydantic import ValidationError

from gpu_inference.engine.network.config import DecoderConfig, NetworkConfigs, TextEncoderConfig, UNetConfig
from gpu_inference.engine.safetensors import ALL, Safetensors, SafetensorsError, open_safetensors
from gpu_inference.importing.source import DECODER, ENCODERS, UNET, CannotImport, Facts

Array = npt.NDArray[Any]
_FOLDERS = {DECODER: "vae"}
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
_LARGEST_JSON = 16 * 1024 * 1024


def _json(path: Path) -> Dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise CannotImport(f"The file {path} is larger than {_LARGEST_JSON} bytes.")
        said = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CannotImport(f"The file {path} is missing; a folder of diffusers has it.") from None
    except OSError as error:
        raise CannotImport(f"The file {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise CannotImport(f"The file {path} is not JSON.") from error
    if not isinstance(said, dict):
        raise CannotImport(f"The file {path} is not a JSON object.")
    return said


def _tensors(folder: Path) -> Dict[str, Safetensors]:
    """The file of each tensor of a network; of several kinds of one network, the largest is read."""
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: (path.stat().st_size, path.name), reverse=True)
    plain = [path for path in paths if ".fp16" not in path.name and ".non_ema" not in path.name] or paths
    if not plain:
        raise CannotImport(f"The folder {folder} has no .safetensors file; others are not read, as a pickle can run code.")
    found: Dict[str, Safetensors] = {}
    for path in plain:
        try:
            file = open_safetensors(path, ALL)
        except SafetensorsError as error:
            raise CannotImport(f"The file {path} is no sound safetensors file: {error}.") from error
        for name in file.tensors:
            found.setdefault(name, file)
    return found


class DiffusersFolder:
    """A :class:`gpu_inference.importing.source.Source`."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`CannotImport` where the folder holds no pipeline of SDXL."""
        self._path = path
        index = _json(path / "model_index.json")
        self.encoders: Tuple[str, ...] = tuple(name for name in ENCODERS if (index.get(name) or [None])[0] is not None)
        if ENCODERS[1] not in self.encoders:
            raise CannotImport(f"The folder {path} holds no SDXL: its model_index.json names no second text encoder.")
        self._configs = {name: _json(path / self._folder(name) / "config.json") for name in (*self.encoders, UNET, DECODER)}
        try:
            self.networks = NetworkConfigs(
                text_encoders=[self._encoder(name) for name in self.encoders],
                unet=self._unet(self._configs[UNET]),
                vae_decoder=self._decoder(self._configs[DECODER]),
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise CannotImport(f"The configurations in {path} are not those of SDXL ({' '.join(str(error).split())[:200]}).") from error
        self._files = {name: _tensors(path / self._folder(name)) for name in self._configs}
        self.tokenizer: Optional[Path] = self._tokenizer()
        self.facts = self._facts(index)

    @staticmethod
    def _folder(network: str) -> str:
        return _FOLDERS.get(network, network)

    def _tokenizer(self) -> Optional[Path]:
        for name in ("tokenizer", "tokenizer_2"):
            folder = self._path / name
            if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
                return folder
        return None

    def _encoder(self, name: str) -> TextEncoderConfig:
        said = self._configs[name]
        return TextEncoderConfig(
            vocabulary=said["vocab_size"], length=said["max_position_embeddings"], width=said["hidden_size"],
            layers=said["num_hidden_layers"], heads=said["num_attention_heads"], activation=said.get("hidden_act", "quick_gelu"),
            projected=name == ENCODERS[1],
        )  # fmt: skip

    def _unet(self, said: Dict[str, Any]) -> UNetConfig:
        widths, kinds = list(said["block_out_channels"]), list(said["down_block_types"])
        depths = said.get("transformer_layers_per_block", 1)
        depths = [depths] * len(widths) if isinstance(depths, int) else list(depths)
        heads = said.get("num_attention_heads") or said["attention_head_dim"]  # which counts heads, for all its name
        if said.get("addition_embed_type") != "text_time" or not said.get("use_linear_projection", False):
            raise ValueError("the UNet is of another kind")
        if set(kinds) - {"DownBlock2D", "CrossAttnDownBlock2D"}:
            raise ValueError("the UNet has blocks that SDXL's has not")
        context = said["cross_attention_dim"]
        waves = said["addition_time_embed_dim"]
        pooled_and_ids = said["projection_class_embeddings_input_dim"]
        numbers = 6 if ENCODERS[0] in self.encoders else 5  # the refiner's
        return UNetConfig(
            in_channels=said["in_channels"], out_channels=said["out_channels"], widths=widths, layers=said["layers_per_block"],
            transformers=[depth if kind.startswith("CrossAttn") else 0 for depth, kind in zip(depths, kinds)],
            middle_transformers=depths[-1], heads=[heads] * len(widths) if isinstance(heads, int) else list(heads),
            groups=said.get("norm_num_groups", 32), context_width=context if isinstance(context, int) else context[0],
            time_id_width=waves, time_ids=numbers, pooled_width=pooled_and_ids - numbers * waves,
        )  # fmt: skip

    @staticmethod
    def _decoder(said: Dict[str, Any]) -> DecoderConfig:
        return DecoderConfig(
            latent_channels=said["latent_channels"], widths=list(said["block_out_channels"]), layers=said["layers_per_block"],
            groups=said.get("norm_num_groups", 32), post_quant=said.get("use_post_quant_conv", True),
        )  # fmt: skip

    def _facts(self, index: Dict[str, Any]) -> Facts:
        said = _json(self._path / "scheduler" / "scheduler_config.json")
        vae = self._configs[DECODER]
        if str(said.get("_class_name", "")).startswith("EDM") or vae.get("latents_mean"):
            raise CannotImport(f"The folder {self._path.name} holds a model trained in the way of EDM, which is not imported.")
        spacing = said.get("timestep_spacing")
        return Facts(
            prediction_type=said.get("prediction_type"), zero_terminal_snr=bool(said.get("rescale_betas_zero_snr", False)),
            timestep_spacing=spacing if spacing in ("leading", "trailing") else None, steps_offset=said.get("steps_offset"),
            beta_start=said.get("beta_start", 0.00085), beta_end=said.get("beta_end", 0.012),
            beta_schedule=said.get("beta_schedule", "scaled_linear"), train_timesteps=said.get("num_train_timesteps", 1000),
            scaling_factor=vae.get("scaling_factor", 0.13025),
            native_size=self._configs[UNET].get("sample_size", 128) * 2 ** (len(vae["block_out_channels"]) - 1),
            hints=f"{self._path.name} {index.get('_name_or_path', '')}".lower(),
            # SDXL fills the first encoder's prompts up with the mark of the end, the second's with token 0.
            pads=[None if name == ENCODERS[0] else 0 for name in self.encoders],
        )  # fmt: skip

    def tensor(self, network: str, name: str) -> Array:
        """See :class:`gpu_inference.importing.source.Source`."""
        found = self.optional(network, name)
        if found is None:
            raise CannotImport(f"The folder {self._path} lacks a tensor of SDXL: '{name}' of the {network}.")
        return found

    def optional(self, network: str, name: str) -> Optional[Array]:
        """See :class:`gpu_inference.importing.source.Source`."""
        for candidate in self._names(network, name):
            file = self._files[network].get(candidate)
            if file is not None:
                try:
                    return file.read_exact(candidate)
                except (OSError, SafetensorsError) as error:
                    raise CannotImport(f"The file {file.path} cannot be read: {error}.") from error
        return None

    @staticmethod
    def _names(network: str, name: str) -> List[str]:
        names = [name]
        if network == DECODER:
            module, _, part = name.rpartition(".")
            names += [f"{module[: -len(new)]}{old}.{part}" for new, old in _OLD_ATTENTION.items() if module.endswith("." + new)]
        if network in ENCODERS and name.startswith("text_model."):
            names.append(name[len("text_model.") :])
        return names

"""Imported models beside diffusers: the same file, prompt and noise give the same latents and the same picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpu_inference.engine import noise
from gpu_inference.engine.backends import open_backend
from gpu_inference.engine.batch import Part
from gpu_inference.engine.loras import Applied, load_lora
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline, Rendered
from gpu_inference.engine.request import parse_request
from gpu_inference.importing.convert import Wishes, import_model

pytestmark = pytest.mark.parity
PROMPT, NEGATIVE = "a red circle at night, zzyzx 7", "blurry"
SEED, STEPS = 11, 5
RELATIVE, PSNR = 1e-3, 40.0
BACKENDS = ("onnx", "torch")
Twin = tuple[Path, Any]
"""A folder that holds the same pipeline in every form, and diffusers' pipeline."""


@pytest.fixture(scope="module")
def twin(libraries: Any, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    from tests.support.sdxl_checkpoints import build_pipeline, write_single_file

    root = tmp_path_factory.mktemp("sdxl")
    pipeline = build_pipeline(root / "folder")
    write_single_file(pipeline, root / "single.safetensors")
    return root, pipeline


def ours(path: Path, backend: str = "onnx") -> Pipeline:
    return Pipeline.load(load_model_folder(path), 2, backend)


def imported(root: Path, source: str, target: str, **wishes: Any) -> Path:
    vocabulary = None if (root / source).is_dir() else root / "folder-vocabulary"
    return import_model(root / source, target, root / target, Wishes(native_size=128, tokenizer=vocabulary, **wishes))


def latents_of(pipeline: Pipeline, **changes: Any) -> Any:
    """Our final latents."""
    found: list[Any] = []
    decode = pipeline.backend.decode
    pipeline.backend.decode = lambda latents: found.append(latents) or decode(latents)  # type: ignore[method-assign]
    pipeline.render(parse_request(request(**changes)))
    pipeline.backend.decode = decode  # type: ignore[method-assign]
    return found[0]


def request(**changes: Any) -> dict[str, Any]:
    return {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "width": 128, "height": 128, "steps": STEPS, "seed": SEED, "guidance_scale": 6.0,
        "scheduler": "euler", **changes,
    }  # fmt: skip


def theirs(libraries: Any, pipeline: Any, kind: str = "latent", **changes: Any) -> Any:
    """diffusers' final latents, or its picture."""
    torch, _ = libraries
    said = {"guidance_scale": 6.0, "width": 128, "height": 128, **changes}
    start = torch.from_numpy(noise.normal(SEED, 0, (1, 4, said["height"] // 8, said["width"] // 8)))
    result = pipeline(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, latents=start, output_type=kind, **said).images
    return result.numpy() if kind == "latent" else np.asarray(result[0]).astype(int)


def relative(mine: Any, other: Any) -> float:
    return float(np.linalg.norm(mine - other) / np.linalg.norm(other))


def psnr(mine: Any, other: Any) -> float:
    error = float(((mine - other) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def picture(pipeline: Pipeline, **changes: Any) -> Any:
    return np.asarray(Image.open(io.BytesIO(pipeline.render(parse_request(request(**changes))).png))).astype(int)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("source", ["folder", "single.safetensors"])
def test_an_imported_model_makes_the_same_picture(libraries: Any, twin: Twin, source: str, backend: str) -> None:
    root, pipeline = twin
    mine = ours(imported(root, source, f"same-{backend}-{source[:6]}", precision="fp32"), backend)
    for changes in ({}, {"guidance_scale": 1.0}, {"width": 128, "height": 96}):
        other = theirs(libraries, pipeline, **{key: value for key, value in changes.items() if key == "guidance_scale"})
        if "height" not in changes:
            assert relative(latents_of(mine, **changes), other) < RELATIVE
    assert psnr(picture(mine), theirs(libraries, pipeline, "pil")) > PSNR


def test_another_aspect_is_the_same_too(libraries: Any, twin: Twin) -> None:
    root, pipeline = twin
    mine = ours(imported(root, "folder", "aspects"))
    width, height = max(mine.folder.manifest.size_buckets, key=lambda size: size[0] / size[1])
    assert width > height
    other = theirs(libraries, pipeline, width=width, height=height)
    assert relative(latents_of(mine, width=width, height=height), other) < RELATIVE


@pytest.mark.parametrize(("dtype", "bound"), [("F32", 1e-3), ("BF16", 1e-3), ("F8_E4M3", 1e-3), ("F8_E5M2", 1e-3)])
def test_every_storage_is_read_as_it_is_meant(libraries: Any, twin: Twin, dtype: str, bound: float) -> None:
    """Against diffusers with weights rounded by the types' own definitions."""
    from tests.support.safetensors_files import TYPES
    from tests.support.sdxl_checkpoints import build_pipeline, write_single_file

    torch, _ = libraries
    root, _ = twin
    pipeline = build_pipeline(root / f"rounded-{dtype}")
    with torch.no_grad():
        for network in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.unet, pipeline.vae):
            for parameter in network.parameters():
                parameter.copy_(torch.from_numpy(parameter.numpy().astype(TYPES[dtype]).astype(np.float32)))
    write_single_file(pipeline, root / f"{dtype}.safetensors", dtype)
    mine = ours(imported(root, f"{dtype}.safetensors", f"model-{dtype}"))
    assert relative(latents_of(mine), theirs(libraries, pipeline)) < bound


def test_v_prediction_is_told_by_the_file(libraries: Any, twin: Twin) -> None:
    from tests.support.sdxl_checkpoints import build_pipeline, write_single_file

    root, _ = twin
    pipeline = build_pipeline(root / "v-folder", prediction_type="v_prediction")
    write_single_file(pipeline, root / "v.safetensors", more={"v_pred": np.zeros(1), "ztsnr": np.zeros(1)})
    manifest = load_model_folder(imported(root, "v.safetensors", "v-single")).manifest
    assert (manifest.prediction_type, manifest.zero_terminal_snr) == ("v_prediction", True)
    mine = ours(imported(root, "v-folder", "v-model"))
    assert mine.folder.manifest.prediction_type == "v_prediction"
    assert relative(latents_of(mine), theirs(libraries, pipeline)) < RELATIVE


@pytest.mark.parametrize("source", ["refiner", "refiner.safetensors"])
def test_the_refiner_reads_five_time_ids(libraries: Any, twin: Twin, source: str) -> None:
    """Its UNet beside diffusers' own: diffusers' pipeline for text takes six."""
    from tests.support.sdxl_checkpoints import build_pipeline, write_single_file

    torch, _ = libraries
    root, _ = twin
    if (root / "refiner").exists():
        pipeline = build_pipeline(root / "refiner-again", refiner=True)
    else:
        pipeline = build_pipeline(root / "refiner", refiner=True)
        write_single_file(pipeline, root / "refiner.safetensors")
    mine = ours(imported(root, source, f"m-{source[:8]}{len(source)}", precision="fp32"))
    assert mine.folder.manifest.time_ids[-1] == "aesthetic_score"
    held: dict[str, Any] = {}
    hold, predict = mine.backend._hold, mine.backend._predict  # type: ignore[attr-defined]
    seen: list[Any] = []
    mine.backend._hold = lambda inputs: held.update(inputs) or hold(inputs)  # type: ignore[attr-defined]
    mine.backend._predict = lambda sample, at: seen.append((sample, at, predict(sample, at))) or seen[-1][2]  # type: ignore[attr-defined]
    mine.render(parse_request(request()))
    assert held["time_ids"].tolist() == [[128, 128, 0, 0, 2.5], [128, 128, 0, 0, 6.0]]
    sample, moment, prediction = seen[0]
    added = {"text_embeds": torch.from_numpy(held["text_embeds"]), "time_ids": torch.from_numpy(held["time_ids"])}
    with torch.no_grad():
        hidden = torch.from_numpy(held["encoder_hidden_states"])
        other = pipeline.unet(torch.from_numpy(sample), moment, hidden, added_cond_kwargs=added).sample.numpy()
    assert relative(prediction, other) < RELATIVE


def lora_files(libraries: Any, pipeline: Any, root: Path) -> dict[str, Path]:
    """Two LoRAs of random weights, in the names of diffusers, and in kohya's by diffusers' names and by the original ones."""
    from gpu_inference.engine.network.names import original_names
    from tests.support.safetensors_files import write_any

    rng = np.random.default_rng(5)
    modules = {
        "unet": [
            name for name, module in pipeline.unet.named_modules() if name.endswith(("to_q", "to_v", "to_out.0", "ff.net.2", "conv1"))
        ],
        "text_encoder": [name for name, _ in pipeline.text_encoder.named_modules() if name.endswith(("q_proj", "fc1"))],
        "text_encoder_2": [name for name, _ in pipeline.text_encoder_2.named_modules() if name.endswith(("v_proj", "fc2"))],
    }
    original = original_names([name.rpartition(".")[0] for name in pipeline.unet.state_dict()])
    found: dict[str, Path] = {}
    for number in (1, 2):
        peft: dict[str, Any] = {}
        kohya: dict[str, Any] = {}
        sgm: dict[str, Any] = {}
        for network, names in modules.items():
            for name in names:
                weight = getattr(pipeline, network).get_submodule(name).weight
                rank, alpha = 4, 2.0 * number
                down = rng.standard_normal((rank, *weight.shape[1:])).astype(np.float32) * 0.05
                up = rng.standard_normal((weight.shape[0], rank, *([1] * (weight.ndim - 2)))).astype(np.float32) * 0.05
                whole = name if network == "unet" or name.startswith("text_model") else "text_model." + name
                peft[f"{network}.{whole}.lora_A.weight"] = down
                peft[f"{network}.{whole}.lora_B.weight"] = up * np.float32(alpha / rank)
                prefix = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[network]
                for target, stem in ((kohya, whole), (sgm, original(name) if network == "unet" else whole)):
                    key = prefix + stem.replace(".", "_")
                    target[key + ".lora_down.weight"], target[key + ".lora_up.weight"] = down, up
                    target[key + ".alpha"] = np.array(alpha, dtype=np.float32)
        for style, tensors in (("peft", peft), ("kohya", kohya), ("sgm", sgm)):
            found[f"{style}{number}"] = write_any(root / f"{style}{number}.safetensors", tensors, "F32", {"base_model": "with-loras"})
    return found


def unet_tensors(file: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return {name: value for name, value in load_file(str(file)).items() if name.startswith("unet.")}


def peft_text_encoders(pipeline: Any, file: Path, adapter: str) -> list[Any]:
    """Puts a file's changes of the text encoders into them by PEFT; returns the changed layers, whose ``scaling`` is the strength.

    The pipeline's own loader takes those of the UNet alone with this release of transformers.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from safetensors.torch import load_file

    tensors, layers = load_file(str(file)), []
    for network in ("text_encoder", "text_encoder_2"):
        model = getattr(pipeline, network)
        names = {name for name in tensors if name.startswith(network + ".") and name.endswith("lora_A.weight")}
        inner = {name[len(network) + 1 : -len(".lora_A.weight")] for name in names}
        own = "" if any(name.startswith("text_model") for name, _ in model.named_modules()) else "text_model."
        config = LoraConfig(r=4, lora_alpha=4, target_modules=[name[len(own) :] for name in inner], init_lora_weights=False)
        inject_adapter_in_model(config, model, adapter_name=adapter)
        for name in inner:
            layer = model.get_submodule(name[len(own) :])
            with torch.no_grad():
                layer.lora_A[adapter].weight.copy_(tensors[f"{network}.{name}.lora_A.weight"])
                layer.lora_B[adapter].weight.copy_(tensors[f"{network}.{name}.lora_B.weight"])
            layers.append(layer)
    return layers


@pytest.mark.parametrize("backend", BACKENDS)
def test_loras_are_those_of_diffusers_with_peft(libraries: Any, twin: Twin, backend: str) -> None:
    from tests.support.safetensors_files import write_any
    from tests.support.sdxl_checkpoints import build_pipeline

    root, _ = twin
    pipeline = build_pipeline(root / f"loras-{backend}")
    files = lora_files(libraries, pipeline, root)
    mine = ours(imported(root, f"loras-{backend}", f"with-loras-{backend}", precision="fp32"), backend)
    plain = latents_of(mine)
    layers = {}
    for number, adapter in ((1, "one"), (2, "two")):
        unet_alone = write_any(root / f"unet-{backend}{number}.safetensors", unet_tensors(files[f"peft{number}"]), "F32", {})
        pipeline.load_lora_weights(str(unet_alone), adapter_name=adapter)
        layers[adapter] = peft_text_encoders(pipeline, files[f"peft{number}"], adapter)

    def switch(strengths: dict[str, float]) -> None:
        pipeline.unet.set_adapters(list(strengths), list(strengths.values()))
        for adapter, changed in layers.items():
            for layer in changed:
                layer.set_adapter(list(strengths))
                layer.scaling[adapter] = strengths.get(adapter, 0.0)

    adapt: Callable[[Any], None] = mine.backend.adapt

    def both(names: list[tuple[str, float]]) -> Any:
        mine.backend.adapt = lambda _loras: adapt([Applied(load_lora(files[name]), strength) for name, strength in names])  # type: ignore[method-assign]
        return latents_of(mine)

    switch({"one": 0.7})
    other = theirs(libraries, pipeline)
    assert relative(plain, other) > 0.02
    for style in ("peft", "kohya", "sgm"):
        assert relative(both([(f"{style}1", 0.7)]), other) < RELATIVE, style
    switch({"one": 0.7, "two": -0.4})
    other = theirs(libraries, pipeline)
    assert relative(both([("kohya1", 0.7), ("peft2", -0.4)]), other) < RELATIVE
    np.testing.assert_array_equal(both([]), plain)


def test_clip_s_tokenizer_reads_as_transformers_does(libraries: Any, twin: Twin) -> None:
    from transformers import CLIPTokenizer

    root, _ = twin
    mine = ours(imported(root, "folder", "tokens"))
    other = CLIPTokenizer.from_pretrained(str(root / "folder-vocabulary"))
    for text in ("", "a Red  circle,\tat NIGHT", "it's 1,024 x 7!", "naïve — “Straße” 日本 🙂", "x" * 300, "don't <|endoftext|> stop"):
        assert mine._tokenizer.encode(text).ids[:76] == other(text)["input_ids"][:76], text


def test_the_backends_of_one_model_agree(libraries: Any, twin: Twin) -> None:
    root, _ = twin
    path = imported(root, "folder", "agree")
    first, second = (open_backend(name, load_model_folder(path), 2) for name in BACKENDS)
    latents = noise.normal(1, 0, (2, 4, 16, 16))
    np.testing.assert_allclose(first.decode(latents), second.decode(latents), atol=2e-3)


def pixels_of(made: Rendered) -> Any:
    return np.asarray(Image.open(io.BytesIO(made.png))).astype(int)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_picture_of_a_batch_is_the_one_that_it_is_alone(twin: Twin, backend: str) -> None:
    pipeline = ours(imported(twin[0], "folder", f"batch-{backend}", precision="fp32"), backend)
    asked = [parse_request(request(seed=seed, guidance_scale=3.0 + seed)) for seed in range(3)]
    alone = [pixels_of(pipeline.render(each)) for each in asked]
    for number, outcome in pipeline.render_batch([Part(each) for each in asked]):
        assert isinstance(outcome, Rendered)
        assert outcome.result.batch == 3
        assert np.abs(pixels_of(outcome) - alone[number]).max() <= 2

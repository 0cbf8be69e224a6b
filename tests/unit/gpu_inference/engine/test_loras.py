"""LoRAs on the tiny model: what is read, what is refused, and that the weights change by the formula."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from gpu_inference.engine import conditioning, noise
from gpu_inference.engine.backends.onnx import OnnxBackend
from gpu_inference.engine.catalogue import Catalogue
from gpu_inference.engine.errors import BadRequest, LoraError, ModelError, UnknownLora, UnknownModel
from gpu_inference.engine.library import find
from gpu_inference.engine.loras import Applied, choose, load_lora
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.metadata import read_metadata
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from gpu_inference.engine.sizes import plan_size
from gpu_inference.engine.tokenizer import Tokenizer
from tests.support.tiny_model import lora_tensors, make_tiny_lora, make_tiny_model, manifest_for

SHAPE = (1, 4, 8, 8)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, a LoRA for each, and one for neither."""
    folder = tmp_path_factory.mktemp("library")
    make_tiny_model(folder / "a_model")
    make_tiny_model(folder / "b_model", seed=1, name="other")
    make_tiny_lora(folder / "loras" / "night.safetensors", trigger_words="by night")
    make_tiny_lora(folder / "loras" / "file.safetensors", name="day", base_model="other")
    return folder


def prediction(backend: OnnxBackend, folder: Path) -> Any:
    model = load_model_folder(folder)
    plan = plan_size(64, 64, model.manifest.size_buckets)
    tokenizer = Tokenizer(folder / "tokenizer.json", 16)
    backend.prepare([conditioning.build(model.manifest, tokenizer, "a", "b", 4.0, plan)[0]])
    return backend.denoise(noise.normal(1, 0, SHAPE), 500.0)


def test_the_header_says_what_it_is(tmp_path: Path) -> None:
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors", trigger_words="by night"))
    info = lora.info()
    assert (info.name, info.base_model, info.trigger_words) == ("x", "tiny", "by night")
    assert info.size_bytes == (tmp_path / "x.safetensors").stat().st_size
    assert sorted(lora.parts) == [("unet", "attention.to_k", False), ("unet", "conv", False)]
    assert load_lora(make_tiny_lora(tmp_path / "y.safetensors", name="z")).name == "z"


def test_a_change_is_alpha_over_rank_times_the_product(tmp_path: Path) -> None:
    parts = {name: value.astype(np.float32) for name, value in lora_tensors().items()}
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors"))
    expected = 4 / 2 * parts["unet.attention.to_k.lora_B.weight"] @ parts["unet.attention.to_k.lora_A.weight"]
    np.testing.assert_allclose(lora.change(("unet", "attention.to_k", False)), expected, rtol=1e-6)
    up, down = parts["unet.conv.lora_B.weight"], parts["unet.conv.lora_A.weight"]
    np.testing.assert_allclose(
        lora.change(("unet", "conv", False)), 2 * np.einsum("or,rihw->oihw", up[:, :, 0, 0], down), rtol=1e-5, atol=1e-6
    )


def test_the_graph_computes_with_the_changed_weights(tiny_model: Path, tmp_path: Path) -> None:
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors"))
    other = Path(shutil.copytree(str(tiny_model), str(tmp_path / "by-hand")))
    graph = onnx.load(str(other / "unet.onnx"))
    for tensor in graph.graph.initializer:
        if tensor.name in ("kernel", "w_text"):
            change = lora.change(("unet", "conv", False)) if tensor.name == "kernel" else lora.change(("unet", "attention.to_k", False)).T
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.7) * change, tensor.name))
    onnx.save(graph, str(other / "unet.onnx"))
    backend = OnnxBackend(load_model_folder(tiny_model), 1)
    plain = prediction(backend, tiny_model)
    backend.adapt([Applied(lora, 0.7)])
    changed = prediction(backend, tiny_model)
    np.testing.assert_allclose(changed, prediction(OnnxBackend(load_model_folder(other), 1), tiny_model), atol=1e-5)
    assert np.abs(changed - plain).max() > 0.05
    backend.adapt([Applied(lora, 0.0)])
    np.testing.assert_array_equal(prediction(backend, tiny_model), plain)


def test_the_unet_is_loaded_anew_only_where_its_weights_change(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors"))
    backend, loaded = OnnxBackend(load_model_folder(tiny_model), 1), []
    session = backend._session
    monkeypatch.setattr(backend, "_session", lambda *arguments: loaded.append(1) or session(*arguments))
    for strength in (0.0, 0.5, 0.5, 0.8, 0.0, 0.0):
        backend.adapt([Applied(lora, strength)])
    backend.adapt([])
    assert len(loaded) == 3


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"unet.gone.lora_A.weight": (2, 4), "unet.gone.lora_B.weight": (4, 2)}, r"no weight 'gone' of \[4, 4\]"),
        ({"unet.conv.lora_A.weight": (2, 4), "unet.conv.lora_B.weight": (4, 2)}, r"no weight 'conv' of \[4, 4\]"),
        (
            {"unet.attention.to_k.lora_A.weight": (2, 4), "unet.attention.to_k.lora_B.weight": (20, 2)},
            r"no weight 'attention.to_k' of \[20, 4\]",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused_and_changes_nothing(
    tiny_model: Path, tmp_path: Path, tensors: dict[str, tuple[int, ...]], words: str
) -> None:
    made = {name: np.ones(shape, dtype=np.float32) for name, shape in tensors.items()}
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors", made))
    backend = OnnxBackend(load_model_folder(tiny_model), 1)
    plain = prediction(backend, tiny_model)
    with pytest.raises(LoraError, match=words) as unfit:
        backend.adapt([Applied(lora, 1.0)])
    assert not unfit.value.retry, "it fits on no other node either"
    np.testing.assert_array_equal(prediction(backend, tiny_model), plain)


def test_one_that_holds_no_numbers_is_not_tried_elsewhere(tiny_model: Path, tmp_path: Path) -> None:
    made = lora_tensors()
    made["unet.conv.lora_A.weight"].reshape(-1)[3] = np.nan
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors", made))
    with pytest.raises(LoraError, match="holds values that are not numbers") as spoilt:
        OnnxBackend(load_model_folder(tiny_model), 1).adapt([Applied(lora, 1.0)])
    assert not spoilt.value.retry
    (tmp_path / "x.safetensors").unlink()
    with pytest.raises(LoraError, match="cannot be read any more") as gone:
        lora.change(("unet", "conv", False))
    assert gone.value.retry, "another node may have it"


def test_a_model_without_a_map_takes_none(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(str(tiny_model), str(tmp_path / "m")))
    lora = load_lora(make_tiny_lora(tmp_path / "x.safetensors"))
    manifest = load_model_folder(folder).manifest
    assert manifest.unet.weights is not None
    (folder / manifest.unet.weights).write_text("{")
    with pytest.raises(ModelError, match="map of weights"):
        OnnxBackend(load_model_folder(folder), 1).adapt([Applied(lora, 1.0)])
    (folder / "manifest.json").write_text(json.dumps(manifest_for(folder, unet={"file": "unet.onnx"})))
    with pytest.raises(LoraError, match="The model 'tiny' takes no LoRA"):
        OnnxBackend(load_model_folder(folder), 1).adapt([Applied(lora, 1.0)])


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({}, {}, "changes nothing"),
        ({"te.a.lora_A.weight": (2, 4)}, {}, "'te.a.lora_A.weight' is not the name of a change of SDXL"),
        ({"unet.a.weight": (2, 4)}, {}, "not the name of a change"),
        ({"unet.a.lora_A.weight": (2, 4)}, {}, "has no counterpart"),
        ({"unet.a.lora_A.weight": (2, 4), "unet.a.lora_B.weight": (4, 3)}, {}, "do not fit"),
        ({"unet.a.lora_A.weight": (2,), "unet.a.lora_B.weight": (4, 2)}, {}, "do not fit"),
        (None, {"alpha": "nan"}, "alpha is not a number"),
        (None, {"alpha": "much"}, "is no LoRA that can be used"),
        (None, {"base_model": ""}, "does not say which model it is for"),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence(tmp_path: Path, tensors: Any, metadata: dict[str, str], words: str) -> None:
    made = None if tensors is None else {name: np.ones(shape, dtype=np.float32) for name, shape in tensors.items()}
    with pytest.raises(LoraError, match=words) as caught:
        load_lora(make_tiny_lora(tmp_path / "x.safetensors", made, **metadata))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(LoraError, match="does not begin with a header"):
        load_lora(tmp_path / "x.safetensors")
    with pytest.raises(LoraError, match="cannot be read"):
        load_lora(tmp_path / "gone.safetensors")


def test_a_library_is_found_and_listed(library: Path, tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "broken.safetensors").write_bytes(b"")
    catalogue = Catalogue([library, tmp_path], lambda folder: Pipeline.load(folder, 1))
    assert [info.name for info in catalogue.infos()] == ["tiny", "other"]
    assert [(info.name, info.base_model) for info in catalogue.lora_infos()] == [("day", "other"), ("night", "tiny")]
    assert len(catalogue.problems) == 1
    assert "broken.safetensors" in catalogue.problems[0]
    assert find([library / "a_model"]) == ([library / "a_model"], [])
    assert find([tmp_path / "none"]).models == [tmp_path / "none"]


def test_the_right_lora_or_one_clear_error(library: Path) -> None:
    catalogue = Catalogue([library], lambda folder: Pipeline.load(folder, 1))
    assert catalogue.lora(None, "other") is None
    night = catalogue.lora("night", None)
    assert night is not None
    assert night.name == "night"
    with pytest.raises(UnknownLora, match="The LoRA 'fog' is not on this node; there are: day, night") as unknown:
        catalogue.lora("fog", None)
    with pytest.raises(BadRequest, match="The LoRA 'night' is for the model 'tiny' and cannot be used with 'other'") as mismatch:
        catalogue.lora("night", "other")
    assert not unknown.value.retry
    assert not mismatch.value.retry
    with pytest.raises(UnknownModel):
        catalogue.lora("night", "sdxl")
    with pytest.raises(UnknownLora, match="there are: none"):
        choose({}, "night", "tiny")


def test_pictures_with_and_without(library: Path) -> None:
    catalogue = Catalogue([library], lambda folder: Pipeline.load(folder, 1))

    def png(**changes: Any) -> bytes:
        request = parse_request({"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 3, **changes})
        return catalogue.pipeline(request.model).render(request, loras=catalogue.applied(request)).png

    plain, other = png(), png(model="other")
    changed = png(lora="night")
    assert changed == png(lora="night", lora_strength=0.8)
    data = read_metadata(changed)
    assert data is not None
    assert (data["lora"], data["lora_strength"]) == ("night", 0.8)
    assert png(**{name: data[name] for name in ("lora", "lora_strength", "model")}) == changed
    assert len({plain, other, changed, png(lora="night", lora_strength=-1), png(model="other", lora="day")}) == 5
    assert png() == plain
    assert png(model="other") == other
    pixels = [Image.open(io.BytesIO(made)).tobytes() for made in (plain, png(lora="night", lora_strength=0))]
    assert pixels[0] == pixels[1]


def test_one_that_was_replaced_is_another(tiny_model: Path, tmp_path: Path) -> None:
    """A LoRA that was uploaded anew under its name has the same header."""
    backend = OnnxBackend(load_model_folder(tiny_model), 1)
    path = make_tiny_lora(tmp_path / "x.safetensors", lora_tensors(0))
    backend.adapt([Applied(load_lora(path), 1.0)])
    first = prediction(backend, tiny_model)
    path.unlink()
    make_tiny_lora(path, lora_tensors(1))
    backend.adapt([Applied(load_lora(path), 1.0)])
    assert np.abs(prediction(backend, tiny_model) - first).max() > 0.01


def test_two_changes_of_one_module_add_up(tiny_model: Path, tmp_path: Path) -> None:
    tensors = lora_tensors(0)
    twice = {name: value for name, value in tensors.items() if ".attention." in name}
    renamed = {
        "lora_unet_attention_to_k.lora_down.weight": tensors["unet.attention.to_k.lora_A.weight"],
        "lora_unet_attention_to_k.lora_up.weight": tensors["unet.attention.to_k.lora_B.weight"],
    }
    backend = OnnxBackend(load_model_folder(tiny_model), 1)
    backend.adapt([Applied(load_lora(make_tiny_lora(tmp_path / "both.safetensors", {**twice, **renamed})), 0.5)])
    both = prediction(backend, tiny_model)
    backend.adapt([Applied(load_lora(make_tiny_lora(tmp_path / "one.safetensors", twice)), 1.0)])
    np.testing.assert_allclose(both, prediction(backend, tiny_model), atol=1e-4)


def test_the_same_part_twice_is_refused(tmp_path: Path) -> None:
    made = {
        name: np.ones(shape, dtype=np.float32)
        for name, shape in (
            ("unet.a.lora_A.weight", (2, 4)), ("unet.a.lora.down.weight", (2, 4)), ("unet.a.lora_B.weight", (4, 2)),
        )
    }  # fmt: skip
    with pytest.raises(LoraError, match="are the same part of one change"):
        load_lora(make_tiny_lora(tmp_path / "x.safetensors", made))

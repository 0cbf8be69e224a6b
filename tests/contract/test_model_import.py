"""A checkpoint of one file becomes a model that nodes run: by its row, on the control plane, whole or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from fleet_api.settings import Settings
from gpu_inference.engine.manifest import load_model_folder
from gpu_inference.engine.pipeline import Pipeline
from gpu_inference.engine.request import parse_request
from tests.support.sdxl_numpy import use_tiny_vocabulary, write_tiny

NORM = "model.diffusion_model.out.0.weight"


@pytest.fixture(autouse=True)
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_vocabulary(tmp_path, monkeypatch)


def upload(api: TestClient, path: Path, name: str = "raw") -> dict[str, Any]:
    with path.open("rb") as file:
        answer = api.post("/api/vision/models/upload", files={"file": (path.name, file)}, data={"name": name, "source": "a test"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def begin(api: TestClient, source: str = "raw", status: int = 201, **body: Any) -> dict[str, Any]:
    answer = api.post(f"/api/vision/models/{source}/import", json={"name": "tiny", "native_size": 128, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def ended(api: TestClient, operation: dict[str, Any], seconds: float = 60.0) -> dict[str, Any]:
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        row = api.get(f"/api/operations/{operation['id']}").json()
        if row["state"] in ("succeeded", "failed", "cancelled", "lost"):
            return row
        time.sleep(0.05)
    raise AssertionError("the operation does not end")


def stored(api: TestClient) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in api.get("/api/vision/models/available").json()["models"]}


def files(settings: Settings) -> list[str]:
    folders = (settings.models, settings.model_imports, settings.model_uploads)
    return sorted(str(each.relative_to(settings.home)) for folder in folders for each in folder.rglob("*") if each.is_file())


def test_a_checkpoint_becomes_a_model_that_makes_pictures(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    note = upload(api, write_tiny(tmp_path / "raw.safetensors"))["note"]
    assert note.startswith("It is a checkpoint of one file")
    row = ended(api, begin(api))
    assert row["state"] == "succeeded", row["reason"]
    assert row["result"]["name"] == "tiny"
    found = stored(api)
    assert (found["tiny"]["stored"], found["tiny"]["note"], found["tiny"]["native_size"]) == (True, "", 128)
    assert "raw" in found
    [folder] = [path.parent for path in settings.models.rglob("manifest.json")]
    assert Pipeline.load(load_model_folder(folder), 1).render(parse_request({"prompt": "red", "width": 64, "height": 64, "steps": 1})).png
    assert not list(settings.model_imports.rglob("*"))
    scanned = api.post("/api/vision/models/scan").json()
    assert (scanned["found"], scanned["gone"], scanned["refused"]) == ([], [], [])


def test_the_source_goes_where_it_is_not_to_stay(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    assert ended(api, begin(api, keep_source=False))["state"] == "succeeded"
    assert "raw" not in stored(api)
    assert not [name for name in files(settings) if "raw" in name]


def test_names_that_are_taken_or_not_there(api: TestClient, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    assert "no model 'nope'" in begin(api, "nope", 404)["detail"] or "nope" in begin(api, "nope", 404)["detail"]
    assert "there is a model 'raw' already" in begin(api, name="raw", status=409)["detail"]
    assert ended(api, begin(api))["state"] == "succeeded"
    assert "imported already" in begin(api, "tiny", 409, name="other")["detail"]
    assert "there is a model 'tiny' already" in begin(api, status=409)["detail"]


@pytest.mark.parametrize(
    ("changes", "metadata", "words"),
    [
        ({NORM: np.full(64, np.nan, dtype=np.float32)}, {}, "'conv_norm_out.weight' of the unet holds values that are not numbers"),
        ({NORM: np.ones((64, 2), dtype=np.float32)}, {}, "'conv_norm_out.weight' of the unet has the shape [64, 2]"),
        ({NORM: None}, {}, "lacks a tensor of SDXL: 'conv_norm_out.weight'"),
        ({"cond_stage_model.transformer.text_model.x": np.ones(2)}, {}, "is a checkpoint of Stable Diffusion 1"),
        ({"model.diffusion_model.double_blocks.0.x": np.ones(2)}, {}, "is a Flux checkpoint"),
        ({"model.diffusion_model.input_blocks.0.0.weight": np.ones((64, 9, 3, 3))}, {}, "is for inpainting: its UNet takes 9 channels"),
        ({"model.diffusion_model.label_emb.0.0.weight": np.ones((256, 131))}, {}, "does not take 6 time ids"),
    ],
)  # fmt: skip
def test_a_hostile_checkpoint_is_one_sentence_and_leaves_nothing(
    api: TestClient, settings: Settings, tmp_path: Path, changes: dict[str, Any], metadata: dict[str, str], words: str
) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors", changes, metadata=metadata))
    before = files(settings)
    row = ended(api, begin(api))
    assert row["state"] == "failed"
    assert words in row["reason"]
    assert row["reason"].endswith(".")
    assert str(settings.home) not in row["reason"]
    assert files(settings) == before


def test_a_cancelled_import_leaves_nothing(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    before = files(settings)
    operation = begin(api)
    api.post(f"/api/operations/{operation['id']}/cancel")
    row = ended(api, operation)
    assert row["state"] in ("cancelled", "succeeded")
    if row["state"] == "cancelled":
        assert files(settings) == before


def test_what_a_control_plane_that_was_killed_has_left_is_cleared(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    [bucket] = {path.parents[1] for path in settings.models.rglob("raw.safetensors")}
    left = bucket / "tiny"
    left.mkdir()
    for name in ("unfinished.txt", "unet.weights", "text_encoder.onnx"):
        (left / name).write_bytes(b"half")
    assert api.post("/api/vision/models/scan").json()["found"] == []
    row = ended(api, begin(api))
    assert row["state"] == "succeeded", row["reason"]
    assert not (left / "unfinished.txt").exists()
    assert load_model_folder(left).manifest.name == "tiny"


def test_strangers_files_are_let_be(api: TestClient, settings: Settings, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    [bucket] = {path.parents[1] for path in settings.models.rglob("raw.safetensors")}
    (bucket / "tiny").mkdir()
    (bucket / "tiny" / "notes.bin").write_bytes(b"mine")
    row = ended(api, begin(api))
    assert row["state"] == "failed"
    assert "has 'tiny/notes.bin' already" in row["reason"]
    assert (bucket / "tiny" / "notes.bin").read_bytes() == b"mine"


def test_two_imports_of_one_name_give_one_model(api: TestClient, tmp_path: Path) -> None:
    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    operations = [begin(api), begin(api)]
    states = sorted(ended(api, each)["state"] for each in operations)
    assert states == ["failed", "succeeded"]
    assert "tiny" in stored(api)


def test_a_source_that_was_replaced_meanwhile_stays(api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fleet_api.models.importing import ModelImports

    upload(api, write_tiny(tmp_path / "raw.safetensors"))
    forget = ModelImports._forget

    async def replaced(self: ModelImports, work: Any, row: Any) -> None:
        self._models.rows()["checkpoint", "raw"] = row.model_copy()
        await forget(self, work, row)

    monkeypatch.setattr(ModelImports, "_forget", replaced)
    assert ended(api, begin(api, keep_source=False))["state"] == "succeeded"
    assert "raw" in stored(api)

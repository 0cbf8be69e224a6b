"""LoRAs that no model of the fleet can use, refused at their upload with nothing left, and shown as such where they lie in the bucket."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleet_api.settings import Settings
from tests.support.models import lora, one, safetensors

LORAS = "/api/vision/loras/upload"
ATTENTION = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def kohya(side: int, prefix: str = "", down: str = ".lora_down.weight", module: str = ATTENTION) -> bytes:
    """A LoRA of one change, which attends to texts of ``side`` numbers a word."""
    tensors: dict[str, Any] = {
        f"{module}{down}": ("F16", [4, side], b"\0" * (8 * side)),
        f"{module}{down.replace('down', 'up').replace('_A', '_B')}": ("F16", [320, 4], b"\0" * 2560),
    }
    if prefix:
        tensors[f"{prefix}text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = ("F16", [4, 768], b"\0" * 6144)
    return safetensors(tensors)


def numbers(value: float, dtype: str = "F16") -> bytes:
    """A LoRA with one value among many others."""
    content = {"F16": struct.pack("<e", value), "F32": struct.pack("<f", value), "BF16": struct.pack("<f", value)[2:]}[dtype]
    zeros = b"\0" * len(content)
    down, up = zeros * 16, zeros * 5 + content + zeros * 10
    return safetensors({"unet.conv.lora_A.weight": (dtype, [2, 8], down), "unet.conv.lora_B.weight": (dtype, [8, 2], up)})


FOREIGN: dict[str, tuple[bytes, str]] = {
    "a UNet of SD 1.5": (kohya(768), "a LoRA for Stable Diffusion 1"),
    "a UNet of SD 2": (kohya(1024), "a LoRA for Stable Diffusion 2"),
    "diffusers' names": (kohya(768, down=".lora_A.weight", module="unet.up_blocks.1.attn2.to_v"), "a LoRA for Stable Diffusion 1"),
    "names of processors": (kohya(768, down="_lora.down.weight", module="unet.up_blocks.1.attn2.processor.to_k"), "Stable Diffusion 1"),
    "a text encoder of SD 1.5": (kohya(768, "lora_te_"), "not named as those of a LoRA of SDXL"),
    "no LoRA at all": (one(), "not named as those of a LoRA of SDXL"),
    "NaN": (numbers(float("nan")), "'unet.conv.lora_B.weight' holds values that are not numbers"),
    "infinite": (numbers(float("-inf"), "F32"), "holds values that are not numbers"),
    "NaN in bfloat16": (numbers(float("nan"), "BF16"), "holds values that are not numbers"),
}


def files_left(settings: Settings) -> list[str]:
    return [str(each) for folder in (settings.model_uploads, settings.models) for each in folder.rglob("*") if each.is_file()]


def detail(answer: Any) -> str:
    assert answer.status_code == 400, answer.text
    found: str = answer.json()["detail"]
    assert found.startswith("file: ")
    assert found.endswith(".")
    return found


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("base", ["sdxl", ""])
def test_they_are_refused_and_nothing_is_left(api: TestClient, settings: Settings, case: str, base: str) -> None:
    data, words = FOREIGN[case]
    fields = {"name": "odd", "base": base} if base else {"name": "odd"}
    assert words in detail(api.post(LORAS, files={"file": ("x.safetensors", data)}, data=fields))
    begun = {"filename": "x.safetensors", "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **fields}
    upload = api.post(LORAS, json=begun).json()
    row = f"/api/vision/uploads/{upload['upload_id']}"
    assert words in detail(api.patch(row, params={"offset": 0}, content=data))
    assert api.get(row).status_code == 404
    assert files_left(settings) == []
    assert api.get("/api/vision/loras").json() == {"loras": []}


@pytest.mark.parametrize("data", [kohya(2048), kohya(768, module=ATTENTION.replace("attn2", "attn1")), kohya(64), numbers(65504.0)])
def test_those_that_may_be_sdxls_are_taken(api: TestClient, data: bytes) -> None:
    answer = api.post(LORAS, files={"file": ("x.safetensors", data)}, data={"name": "fine", "base": "sdxl"})
    assert (answer.status_code, answer.json()["note"]) == (201, "")


@pytest.mark.parametrize("case", FOREIGN)
def test_those_put_into_the_bucket_by_hand_say_why_they_cannot_be_used(api: TestClient, settings: Settings, case: str) -> None:
    data, words = FOREIGN[case]
    for name, content in (("odd", data), ("fine", lora("fleet-shapes"))):
        path = settings.models / "fleet-loras" / name / "x.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        (path.parent / "fleet.json").write_text('{"base": "fleet-shapes"}')
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert api.post("/api/vision/models/scan").json()["found"] == ["fine", "odd"]
    notes = {each["name"]: each["note"] for each in api.get("/api/vision/loras").json()["loras"]}
    assert notes["fine"] == ""
    assert words in notes["odd"]

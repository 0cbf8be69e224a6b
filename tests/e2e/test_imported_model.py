"""The round trip of a checkpoint: import, picture, LoRA, switch, eviction from the nodes, and import again, with real agents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fleet_api.settings import Settings
from tests.support.live import Live, live
from tests.support.safetensors_files import write_any
from tests.support.sdxl_numpy import use_tiny_vocabulary, write_tiny
from tests.support.store_agents import StoreAgent, until
from tests.support.tiny_model import make_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
MODULE = "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    use_tiny_vocabulary(tmp_path, monkeypatch)
    with live(Settings(home=tmp_path / "home", port=0, default_model="own")) as found:
        yield found


@pytest.fixture
def agent(api: Live, tmp_path: Path) -> Iterator[StoreAgent]:
    found = StoreAgent(api, "agx0", tmp_path / "agx0", make_tiny_model(tmp_path / "own", name="own"))
    found.start()
    try:
        found.ready()
        yield found
    finally:
        found.stop()


def call(api: Live, method: str, path: str, status: int, **more: Any) -> Any:
    answer = httpx.request(method, f"{api.url}{path}", trust_env=False, timeout=60, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def imported(api: Live, file: Path) -> None:
    with file.open("rb") as stream:
        call(api, "POST", "/api/vision/models/upload", 201, files={"file": (file.name, stream)}, data={"name": "raw"})
    body = {"name": "sdxl", "native_size": 128, "keep_source": False}
    operation = call(api, "POST", "/api/vision/models/raw/import", 201, json=body)
    path = f"/api/operations/{operation['id']}"
    row = until(lambda: (found := call(api, "GET", path, 200))["state"] not in ("queued", "running") and found, 60, "the import's end")
    assert row["state"] == "succeeded", row


def picture(api: Live, **body: Any) -> bytes:
    job = call(
        api,
        "POST",
        "/api/vision/generate",
        201,
        json={"prompt": "a red circle", "steps": 2, "seed": 5, "width": 128, "height": 128, **body},
    )
    path = f"/api/vision/jobs/{job['job_id']}"
    done = until(lambda: (found := call(api, "GET", path, 200))["status"] in ("completed", "failed") and found, 60, "the job's end")
    assert done["status"] == "completed", done
    return httpx.get(f"{api.url}{done['result']['image_url']}", trust_env=False).content


def pixels(png: bytes) -> Any:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png))).astype(int)


def test_import_picture_lora_switch_evict_and_import_again(api: Live, agent: StoreAgent, tmp_path: Path) -> None:
    file = write_tiny(tmp_path / "raw.safetensors")
    imported(api, file)
    first = pixels(picture(api, model="sdxl"))
    assert first.std() > 5
    rng = np.random.default_rng(1)
    lora = write_any(
        tmp_path / "style.safetensors",
        {
            f"lora_unet_{MODULE}.lora_down.weight": rng.standard_normal((4, 64)),
            f"lora_unet_{MODULE}.lora_up.weight": rng.standard_normal((64, 4)),
            f"lora_unet_{MODULE}.alpha": np.array(4.0),
        },
        "F16",
        {},
    )
    with lora.open("rb") as stream:
        fields = {"name": "style", "base": "sdxl"}
        assert call(api, "POST", "/api/vision/loras/upload", 201, files={"file": ("style.safetensors", stream)}, data=fields)["note"] == ""
    assert np.abs(pixels(picture(api, model="sdxl", lora="style", lora_strength=1.0)) - first).max() > 3
    picture(api, model="own")
    assert api.fleet.nodes.get("agx0").loaded_model == "own"
    np.testing.assert_array_equal(pixels(picture(api, model="sdxl")), first)
    picture(api, model="own")
    call(api, "DELETE", "/api/vision/models/sdxl", 200)
    until(lambda: "sdxl" not in agent.models, 30, "the eviction")
    imported(api, file)
    np.testing.assert_array_equal(pixels(picture(api, model="sdxl")), first)

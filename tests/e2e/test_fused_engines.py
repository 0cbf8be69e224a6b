"""A LoRA on an int8 engine: its job says which command builds what it lacks, and once that was done the next has its picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from fleet_api.settings import Settings
from tests.support.live import Live, live
from tests.support.safetensors_files import write_any
from tests.support.sdxl_numpy import import_tiny
from tests.support.store_agents import StoreAgent, until
from tests.support.tensorrt_machine import use_tensorrt

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
MODULE = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


def call(api: Live, method: str, path: str, status: int = 200, **more: Any) -> Any:
    answer = httpx.request(method, f"{api.url}{path}", trust_env=False, timeout=60, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def built(api: Live, **more: Any) -> dict[str, Any]:
    row = call(api, "POST", "/api/vision/nodes/agx0/engines", 201, json={"model": "tiny", **more})
    path = f"/api/operations/{row['id']}"
    done = until(lambda: (found := call(api, "GET", path))["state"] not in ("queued", "running") and found, 90, "the build's end")
    assert done["state"] == "succeeded", done["reason"]
    return dict(done["result"])


def picture(api: Live) -> dict[str, Any]:
    body = {"prompt": "x", "steps": 2, "width": 128, "height": 128, "seed": 1, "lora": "ink", "lora_strength": 0.6}
    path = f"/api/vision/jobs/{call(api, 'POST', '/api/vision/generate', 201, json=body)['job_id']}"
    return dict(until(lambda: (row := call(api, "GET", path))["status"] in ("completed", "failed") and row, 60, "the picture"))


def test_the_command_that_a_failed_job_names_gives_it_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    (models / "loras").mkdir(parents=True)
    import_tiny(models / "tiny")
    rng = np.random.default_rng(3)
    change = {f"{MODULE}.lora_A.weight": rng.standard_normal((4, 128)), f"{MODULE}.lora_B.weight": rng.standard_normal((128, 4))}
    write_any(models / "loras" / "ink.safetensors", change, "F32", {"base_model": "tiny"})
    use_tensorrt(tmp_path / "stand-ins", monkeypatch)
    with live(Settings(home=tmp_path / "home", port=0, default_model="tiny")) as api:
        agent = StoreAgent(api, "agx0", tmp_path / "agx0", models)
        env = {**os.environ, "FLEET_AGENT_MODELS": str(models), "FLEET_ENGINE_PLANS": str(agent.folder / "plans")}
        monkeypatch.setenv("FLEET_AGENT_BACKEND", "tensorrt")
        agent.start()
        try:
            (tmp_path / "prompts.txt").write_text("a red circle\n")
            words = ["engines", "calibrate", "tiny", "--prompts", str(tmp_path / "prompts.txt")]
            subprocess.run([sys.executable, "-m", "gpu_inference", *words], env=env, check=True, capture_output=True, timeout=90)
            agent.ready()
            assert built(api)["built"] == 3, "the UNet's is there"
            failed = picture(api)
            assert failed["status"] == "failed"
            assert "fleet engines build NODE_ID tiny --lora ink:0.6" in str(failed)
            assert built(api, loras=[{"name": "ink", "strength": 0.6}])["built"] == 1
            assert picture(api)["status"] == "completed"
            assert built(api, loras=[{"name": "ink", "strength": 0.6}])["built"] == 0
            engines = call(api, "GET", "/api/vision/engines")["engines"]
            [plain, fused] = sorted((each["loras"] for each in engines if each["network"] == "unet"), key=len)
            assert (plain, [each["strength"] for each in fused]) == ([], [0.6]), "the store keeps it beside the other"
            said = subprocess.run(
                [sys.executable, "-m", "gpu_inference", "engines", "list"], env=env, check=True, capture_output=True
            ).stdout
            assert f"with {fused[0]['sha256'][:8]}:0.6" in said.decode()
        finally:
            agent.stop()

"""One node builds the engines of a model on order, another of its kind fetches them, and both make pictures with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_api.settings import Settings
from tests.support.live import Live, live
from tests.support.sdxl_numpy import import_tiny
from tests.support.store_agents import StoreAgent, until
from tests.support.tensorrt_machine import use_tensorrt

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
NETWORKS = ["text_encoder", "text_encoder_2", "unet", "vae_decoder"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Live]:
    with live(Settings(home=tmp_path / "home", port=0, default_model="tiny")) as found:
        yield found


@pytest.fixture
def nodes(api: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StoreAgent]]:
    model = import_tiny(tmp_path / "tiny")
    use_tensorrt(tmp_path / "stand-ins", monkeypatch)
    found = [StoreAgent(api, name, tmp_path / name, model) for name in ("agx0", "agx1")]
    for each in found:
        each.start()
    try:
        yield [each.ready() for each in found]
    finally:
        for each in found:
            each.stop()


def call(api: Live, method: str, path: str, status: int = 200, **more: Any) -> Any:
    answer = httpx.request(method, f"{api.url}{path}", trust_env=False, timeout=60, **more)
    assert answer.status_code == status, answer.text
    return answer.json()


def built(api: Live, node_id: str) -> dict[str, Any]:
    row = call(api, "POST", f"/api/vision/nodes/{node_id}/engines", 201, json={"model": "tiny"})
    path = f"/api/operations/{row['id']}"
    done = until(lambda: (found := call(api, "GET", path))["state"] not in ("queued", "running") and found, 90, "the build's end")
    assert done["state"] == "succeeded", done["reason"]
    return dict(done["result"])


def plans(agent: StoreAgent) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in sorted((agent.folder / "plans").glob("*.plan"))}


def test_built_once_and_fetched_by_the_others(api: Live, nodes: list[StoreAgent]) -> None:
    first, second = nodes
    assert call(api, "GET", "/api/vision/engines")["engines"] == []
    assert built(api, "agx0") == {"node_id": "agx0", "model": "tiny", "built": 4, "fetched": 0}
    shown = call(api, "GET", "/api/vision/engines")
    said = [(each["network"], each["model"], each["architecture"], each["tensorrt"], each["node_id"]) for each in shown["engines"]]
    assert said == [(name, "tiny", "sm_87", "10.16.1", "agx0") for name in NETWORKS]
    assert shown["size_bytes"] == sum(len(data) for data in plans(first).values())

    assert built(api, "agx1") == {"node_id": "agx1", "model": "tiny", "built": 0, "fetched": 4}
    assert plans(second) == plans(first)
    assert built(api, "agx1")["built"] == 0, "what is there is not built again"
    assert not [each for each in (second.folder / "plans").iterdir() if each.suffix not in (".plan", ".json")]

    body = {"prompt": "a red circle", "steps": 2, "width": 128, "height": 128}
    for agent in nodes:
        call(api, "POST", f"/api/vision/models/switch/{agent.name}", json={"model": "tiny"})
    jobs = [call(api, "POST", "/api/vision/generate", 201, json={**body, "seed": seed})["job_id"] for seed in range(4)]
    for job in jobs:
        done = until(lambda job=job: (row := call(api, "GET", f"/api/vision/jobs/{job}"))["status"] in ("completed", "failed") and row, 60)
        assert done["status"] == "completed", done

    [key] = [each["key"] for each in shown["engines"] if each["network"] == "unet"]
    call(api, "DELETE", f"/api/vision/engines/{key}")
    call(api, "DELETE", f"/api/vision/engines/{key}", 404)
    (second.folder / "plans" / f"{key}.plan").unlink()
    assert built(api, "agx1") == {"node_id": "agx1", "model": "tiny", "built": 1, "fetched": 0}
    assert len(call(api, "GET", "/api/vision/engines")["engines"]) == 4, "given to the store again"

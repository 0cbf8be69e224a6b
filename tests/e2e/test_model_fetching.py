"""Three real agents and a model store, a folder or a real S3 server: who fetches what from whom, and what is never there in half."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fleet_api.routes import agent_models
from fleet_api.settings import Settings
from tests.support.live import Live, live
from tests.support.models import lora
from tests.support.s3 import KEY, SECRET, S3Server
from tests.support.store_agents import StoreAgent, model_folder, switch, until
from tests.support.tiny_model import lora_tensors, make_tiny_lora, make_tiny_model

pytestmark = pytest.mark.timeout(180)
NAMES = ("agx0", "agx1", "agx2")


@pytest.fixture(params=["folder", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def buckets(kind: str, tmp_path: Path) -> Path:
    return tmp_path / "home" / "models" if kind == "folder" else tmp_path / "s3"


@pytest.fixture
def api(kind: str, buckets: Path, tmp_path: Path) -> Iterator[Live]:
    settings = Settings(home=tmp_path / "home", port=0, default_model="tiny")
    if kind == "folder":
        with live(settings) as found:
            yield found
        return
    seen_at_once = ["--dir-cache-time", "0s"]  # what is put into the folder by hand
    with S3Server(buckets, options=seen_at_once) as server:
        settings = settings.model_copy(update={"s3_endpoint": server.url, "s3_credential": "store", "s3_networks": ["127.0.0.0/8"]})
        with live(settings) as found:
            body = {"name": "store", "username": KEY, "password": SECRET}
            assert httpx.post(f"{found.url}/api/vault", json=body, trust_env=False).status_code == 201
            yield found


@pytest.fixture
def agents(api: Live, tmp_path: Path) -> Iterator[list[StoreAgent]]:
    own = make_tiny_model(tmp_path / "own", name="tiny")
    found = [StoreAgent(api, name, tmp_path / name, own) for name in NAMES]
    for agent in found:
        agent.start()
    try:
        for agent in found:
            agent.ready()
        yield found
    finally:
        for agent in found:
            agent.stop()


def put_by_hand(api: Live, buckets: Path, model: Path, name: str) -> None:
    """Lay a model into its bucket as of an hour ago, and have it found."""
    target = buckets / "fleet-models" / name
    target.mkdir(parents=True)
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
        os.utime(target / file.name, (time.time() - 3600,) * 2)
    answer = httpx.post(f"{api.url}/api/vision/models/scan", trust_env=False, timeout=60)
    assert name in answer.json()["found"], answer.text


def upload(api: Live, data: bytes) -> httpx.Response:
    """Upload the LoRA "dusk"."""
    files, fields = {"file": ("x.safetensors", data)}, {"name": "dusk"}
    return httpx.post(f"{api.url}/api/vision/loras/upload", files=files, data=fields, trust_env=False, timeout=30)


def finish(api: Live, **body: object) -> dict[str, object]:
    """Queue a picture and wait for its end."""
    job = httpx.post(f"{api.url}/api/vision/generate", json={"prompt": "x", "steps": 2, "width": 64, "height": 64, **body}, trust_env=False)
    assert job.status_code == 201, job.text
    path = f"{api.url}/api/vision/jobs/{job.json()['job_id']}"
    return until(  # type: ignore[no-any-return]
        lambda: (found := httpx.get(path, trust_env=False).json())["status"] in ("completed", "failed") and found, 60, "the job's end"
    )


def test_three_nodes_fetch_a_model_from_the_store_twice_at_most(api: Live, agents: list[StoreAgent], buckets: Path, tmp_path: Path) -> None:
    put_by_hand(api, buckets, model_folder(tmp_path / "made", "big", megabytes=20), "big")
    for agent in agents:
        assert switch(api, agent, "big")["status"] == "fetching"
    until(lambda: all("big" in agent.models for agent in agents), 90, "the model on every node")
    served = {file: times for (_, name, file), times in api.fleet.fetching.served.items() if name == "big"}
    print(f"fetches from the store of 3 nodes, by file: {served}")
    assert set(served.values()) <= {1, 2}
    assert any('"source": "agx' in agent.log or '"source":"agx' in agent.log for agent in agents), "somebody fetched from a neighbour"
    until(lambda: all(api.fleet.nodes.get(name).loaded_model == "big" for name in NAMES), 60, "the switch")
    assert finish(api, model="big")["status"] == "completed"


def test_a_job_brings_a_lora_to_one_node_and_deletion_takes_it_away(api: Live, agents: list[StoreAgent], tmp_path: Path) -> None:
    data = make_tiny_lora(tmp_path / "night.safetensors", lora_tensors()).read_bytes()
    answer = upload(api, data)
    assert (answer.status_code, answer.json()["note"]) == (201, ""), answer.text
    done = finish(api, lora="dusk")
    assert done["status"] == "completed", done
    assert sum("dusk" in agent.loras for agent in agents) == 1, "one job, one node"
    httpx.delete(f"{api.url}/api/vision/loras/dusk", trust_env=False)
    until(lambda: not any("dusk" in agent.loras for agent in agents), 30, "the deletion on the node")
    assert not any(list((agent.cache / "files").iterdir()) for agent in agents)
    assert httpx.post(f"{api.url}/api/vision/generate", json={"prompt": "x", "lora": "dusk"}, trust_env=False).status_code == 404


def test_an_agent_killed_in_the_middle_goes_on_where_it_was(
    api: Live, agents: list[StoreAgent], buckets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_by_hand(api, buckets, model_folder(tmp_path / "made", "big", megabytes=30), "big")
    real, sent = agent_models.closing, []

    def slow(chunks, stack):  # type: ignore[no-untyped-def]
        for chunk in real(chunks, stack):
            sent.append(len(chunk))
            time.sleep(0.05)
            yield chunk

    monkeypatch.setattr(agent_models, "closing", slow)
    agent = agents[0]
    switch(api, agent, "big")
    parts = agent.cache / "files"
    until(lambda: any(each.suffix == ".part" and each.stat().st_size > 5_000_000 for each in parts.iterdir()), 60, "a part")
    agent.kill()
    [part] = [each for each in parts.iterdir() if each.suffix == ".part"]
    there, before = part.stat().st_size, sum(sent)
    assert 0 < there < 30 * 2**20
    assert not (parts / part.stem).exists(), "never half a file under its name"
    time.sleep(0.5)
    before = sum(sent)
    agent.start().ready()
    switch(api, agent, "big")
    until(lambda: "big" in agent.models, 90, "the model")
    again = sum(sent) - before
    total = sum(each.stat().st_size for each in (tmp_path / "made").iterdir())
    print(f"of {total} bytes {there} were there after kill -9, and {again} were sent again")
    assert again <= total - there + 2 * 2**20
    for file in (tmp_path / "made").iterdir():
        assert (parts / hashlib.sha256(file.read_bytes()).hexdigest()).read_bytes() == file.read_bytes()


def test_what_is_used_least_goes_when_the_cache_is_full_and_the_loaded_model_stays(
    api: Live, agents: list[StoreAgent], buckets: Path, tmp_path: Path
) -> None:
    agent = agents[0]
    agent.stop()
    agent.limit_gib = 12 / 1024
    agent.start().ready()
    for number, name in enumerate(("one", "two", "three")):
        put_by_hand(api, buckets, model_folder(tmp_path / name, name, megabytes=5, seed=number), name)
    for name in ("one", "two"):
        switch(api, agent, name)
        until(lambda wanted=name: api.fleet.nodes.get(agent.name).loaded_model == wanted, 60, name)
    switch(api, agent, "three")
    until(lambda: "three" in agent.models, 60, "the third")
    assert "one" not in agent.models
    assert "two" in agent.models
    put_by_hand(api, buckets, model_folder(tmp_path / "huge", "huge", megabytes=13), "huge")
    switch(api, agent, "huge")
    until(lambda: api.fleet.nodes.get(agent.name).cache.failed, 60, "the refusal")
    found = httpx.get(f"{api.url}/api/vision/models/available", trust_env=False).json()["models"]
    [huge] = [each for each in found if each["name"] == "huge"]
    assert "the cache of this node may have" in huge["failed_on"][agent.name]


def test_a_file_that_is_not_what_the_store_said_is_never_used(api: Live, agents: list[StoreAgent], buckets: Path) -> None:
    data = lora("tiny")
    upload(api, data)
    target = buckets / "fleet-loras" / "dusk" / "x.safetensors"
    target.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    httpx.post(f"{api.url}/api/vision/generate", json={"prompt": "x", "lora": "dusk"}, trust_env=False)
    until(lambda: any(each.cache.failed for each in api.fleet.nodes.all()), 60, "the refusal")
    failed = [each for node in api.fleet.nodes.all() for each in node.cache.failed]
    assert "came damaged 3 times" in failed[0].error
    assert not any("dusk" in agent.loras for agent in agents)
    assert not any(each for agent in agents for each in (agent.cache / "files").iterdir())


def test_a_neighbour_that_gives_something_else_or_dies_is_left_for_the_store(
    api: Live, agents: list[StoreAgent], buckets: Path, tmp_path: Path
) -> None:
    put_by_hand(api, buckets, model_folder(tmp_path / "made", "big", megabytes=5), "big")
    first, second, third = agents
    switch(api, first, "big")
    until(lambda: "big" in first.models, 60, "the first copy")
    ballast = hashlib.sha256((tmp_path / "made" / "ballast.bin").read_bytes()).hexdigest()
    with (first.cache / "files" / ballast).open("r+b") as file:
        file.write(b"damaged")
    switch(api, second, "big")
    until(lambda: "big" in second.models, 60, "the second copy")
    assert "SHA-256 differs" in second.log
    assert (second.cache / "files" / ballast).read_bytes() == (tmp_path / "made" / "ballast.bin").read_bytes()
    first.kill()
    second.kill()
    switch(api, third, "big")
    until(lambda: "big" in third.models, 90, "the third copy")
    assert (third.cache / "files" / ballast).read_bytes() == (tmp_path / "made" / "ballast.bin").read_bytes()

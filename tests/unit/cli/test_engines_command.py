"""``fleet engines``, as a process, against a running API."""

from __future__ import annotations

import httpx

from fleet_api.cli.engines import _words
from tests.support.agent import CAPABILITIES, FakeAgent
from tests.support.command import Command
from tests.support.live import Live


def test_an_empty_store_says_how_it_is_filled(fleet: Command, served: Live) -> None:
    assert "fleet engines build NODE_ID MODEL" in fleet("engines", "--url", served.url).stdout
    assert fleet.json("engines", "--json", "--url", served.url)["engines"] == []


def test_engines_show_what_is_in_their_weights() -> None:
    found = [{"name": "ink", "sha256": "a" * 64, "strength": 0.6}, {"name": None, "sha256": "b" * 64, "strength": -1.0}]
    assert (_words(found), _words([])) == ("ink:0.6 bbbbbbbb:-1", "-")


def test_what_is_wrong_is_one_sentence(fleet: Command, served: Live) -> None:
    assert "There is no node 'nope'" in fleet("engines", "build", "nope", "sdxl", "--url", served.url, code=4).stderr
    assert "There is no engine 'nope'" in fleet("engines", "remove", "nope", "--url", served.url, code=4).stderr
    assert "Missing argument" in fleet("engines", "remove", "--url", served.url, code=2).stderr


def test_help_has_examples(fleet: Command) -> None:
    said = fleet("engines", "--help").stdout
    assert "fleet engines build agx0 sdxl-base" in said
    said = fleet("engines", "build", "--help").stdout
    assert "fetches" in said
    assert "--lora ink:0.6" in said
    assert "NAME:STRENGTH" in said


def test_loras_are_sent_with_the_order(fleet: Command, served: Live) -> None:
    http = httpx.Client(base_url=served.url, trust_env=False)
    token = http.post("/api/agents/tokens", json={"node_id": "agx0"}).json()["token"]
    enrolled = http.post("/api/agents/enrol", json={"token": token, "hostname": "agx0", "machine_id": "agx0"}).json()
    agent = FakeAgent(http, enrolled["node_id"], enrolled["credential"])  # type: ignore[arg-type]
    loras = [{"name": "ink", "base_model": "other-model"}, {"name": "film", "base_model": "other-model"}]
    agent.capabilities = {**CAPABILITIES, "builds": True, "builds_loras": True, "loras": loras}
    agent.lease()
    words = ("engines", "build", "agx0", "other-model", "--no-wait", "--url", served.url)
    begun = fleet.json(*words, "--lora", "ink:0.6", "--lora", "film")
    assert begun["title"] == "Build the engines of other-model with ink:0.6, film:0.8 on agx0"
    assert "a strength is a number" in fleet(*words, "--lora", "ink:much", code=2).stderr
    assert "no LoRA 'oil'" in fleet(*words, "--lora", "oil:1", code=4).stderr

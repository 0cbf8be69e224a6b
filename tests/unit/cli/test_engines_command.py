"""``fleet engines``, as a process, against a running API."""

from __future__ import annotations

from tests.support.command import Command
from tests.support.live import Live


def test_an_empty_store_says_how_it_is_filled(fleet: Command, served: Live) -> None:
    assert "fleet engines build NODE_ID MODEL" in fleet("engines", "--url", served.url).stdout
    assert fleet.json("engines", "--json", "--url", served.url)["engines"] == []


def test_what_is_wrong_is_one_sentence(fleet: Command, served: Live) -> None:
    assert "There is no node 'nope'" in fleet("engines", "build", "nope", "sdxl", "--url", served.url, code=4).stderr
    assert "There is no engine 'nope'" in fleet("engines", "remove", "nope", "--url", served.url, code=4).stderr
    assert "Missing argument" in fleet("engines", "remove", "--url", served.url, code=2).stderr


def test_help_has_examples(fleet: Command) -> None:
    said = fleet("engines", "--help").stdout
    assert "fleet engines build agx0 sdxl-base" in said
    assert "fetches" in fleet("engines", "build", "--help").stdout

"""A model that a node is to have: what becomes of the answers of the command ``fleet``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.fleet.commander.plugins.modules import fleet_node_model

Answer = tuple[int, str, str]
NOTHING = "fleet: model: node 'agx0' has no model 'sdxl'; it has: none.\n"
OTHERS = "fleet: model: node 'agx0' has no model 'sdxl'; it has: own.\n"


class Ended(Exception):
    """What a module ended with."""


class FakeModule:
    """An AnsibleModule whose commands answer one after the other, the last for ever."""

    def __init__(self, model: str, answers: list[Answer], check: bool = False) -> None:
        self.params = {"node_id": "agx0", "model": model, "seconds": 60, "program": ["/bin/fleet"]}
        self.check_mode, self.answers = check, answers
        self.asked: list[list[str]] = []
        self.warnings: list[str] = []

    def get_bin_path(self, name: str) -> str:
        return name

    def run_command(self, words: list[str], handle_exceptions: bool) -> Answer:
        self.asked.append(words)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    def fail_json(self, **result: Any) -> None:
        raise Ended({"failed": True, **result})


def told(status: str) -> Answer:
    return 0, json.dumps({"node_id": "agx0", "model": "sdxl", "status": status}), ""


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(fleet_node_model.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(fleet_node_model.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def ended(monkeypatch: pytest.MonkeyPatch, module: FakeModule) -> dict[str, Any]:
    monkeypatch.setattr(fleet_node_model, "AnsibleModule", lambda **spec: module)
    with pytest.raises(Ended) as end:
        fleet_node_model.main()
    result: dict[str, Any] = end.value.args[0]
    return result


def test_one_that_is_named_is_loaded_or_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeModule("sdxl", [(4, "", NOTHING), told("fetching"), told("loaded")])
    result = ended(monkeypatch, module)
    assert (result["changed"], result["status"]) == (True, "loaded")
    assert module.asked[0] == ["/bin/fleet", "models", "--load", "agx0", "sdxl", "--json"]
    assert ended(monkeypatch, FakeModule("sdxl", [told("loaded")]))["changed"] is False
    assert ended(monkeypatch, FakeModule("sdxl", [(3, "", "fleet: No control plane answers.")]))["msg"] == "No control plane answers."
    assert "it has: own" in ended(monkeypatch, FakeModule("sdxl", [(4, "", OTHERS)]))["msg"]
    assert "after 60 s; it is fetching" in ended(monkeypatch, FakeModule("sdxl", [told("fetching")]))["msg"]


@pytest.mark.parametrize(
    ("answers", "changed", "status", "warned"),
    [
        ([told("there")], False, "there", ""),
        ([(4, "", NOTHING), told("there")], False, "there", ""),
        ([told("unknown"), told("fetching"), told("loaded")], True, "loaded", ""),
        ([told("unknown")], False, "not asked", "Neither a node nor the fleet's model store has the default model."),
        ([(3, "", "fleet: No control plane answers.")], False, "not asked", "No control plane answers."),
        ([(4, "", OTHERS)], False, "not asked", "it has: own."),
    ],
)
def test_the_default_is_fetched_where_it_is_missing_and_is_worth_no_failure(
    answers: list[Answer], changed: bool, status: str, warned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = FakeModule("default", answers)
    result = ended(monkeypatch, module)
    assert (result["changed"], result["status"], "failed" in result) == (changed, status, False)
    assert module.asked[0] == ["/bin/fleet", "models", "--bring-default", "agx0", "--json"]
    assert bool(module.warnings) == bool(warned)
    assert all(each.endswith(warned) for each in module.warnings)


def test_nothing_is_asked_in_check_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeModule("default", [], check=True)
    assert ended(monkeypatch, module)["status"] == "not asked"
    assert module.asked == []

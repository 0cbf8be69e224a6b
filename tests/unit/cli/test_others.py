"""``fleet enrol``, ``audit``, ``status``, ``jobs`` and ``nodes``, and the help."""

from __future__ import annotations

import json

import httpx
import pytest

from fleet_api.access import certificates
from fleet_api.cli.main import ORDER, app
from gpu_inference.protocol import PROTOCOL_VERSION
from tests.support.command import Command, watched
from tests.support.live import Live


def test_enrol_says_how(fleet: Command) -> None:
    said = fleet("enrol", "agx0", "--minutes", "10").stdout
    assert said.startswith("On the node, within 10 minutes:\n  FLEET_AGENT_URL=http://127.0.0.1:8765 FLEET_AGENT_TOKEN=fleet-enrol_")
    assert said.endswith(".agx0. fleet-worker run\n")
    made = fleet.json("enrol")
    assert (made["node_id"], made["url"]) == (None, "http://127.0.0.1:8765")
    assert made["token"].endswith("..")


def test_enrol_names_the_authority_where_it_speaks_tls(fleet: Command) -> None:
    fleet("tls", "renew")
    (fleet.home / "public-url").write_text("https://manager.example.invalid:8765\n")
    made = fleet.json("enrol", "agx0")
    assert made["url"] == "https://manager.example.invalid:8765"
    assert made["token"].split(".")[1:] == ["agx0", certificates.ca_hash(fleet.home / "tls")]


@pytest.mark.parametrize("name", ["A/B", "jetpack", "heartbeats", "-x", "\udcff", "x" * 49])
def test_enrol_takes_what_the_api_takes(fleet: Command, name: str) -> None:
    assert "node_id" in fleet("enrol", "--", name, code=2).stderr
    assert not (fleet.home / "fleet.db").exists()


def test_enrol_by_address(fleet: Command, served: Live) -> None:
    made = fleet.json("enrol", "agx0", "--url", served.url)
    assert made["url"] == served.url
    assert "reserved" in fleet("enrol", "jetpack", "--url", served.url, code=4).stderr


def test_what_is_empty_says_what_to_do(fleet: Command, served: Live) -> None:
    assert "No jobs yet. Make one: fleet generate" in fleet("jobs", "--url", served.url).stdout
    assert "No nodes yet. 'fleet up' starts an agent" in fleet("nodes", "--url", served.url).stdout
    assert "Nothing was changed yet." in fleet("audit", "--caller", "nobody", "--url", served.url).stdout
    assert fleet.json("nodes", "--url", served.url) == []


def test_a_node_is_retired(fleet: Command, served: Live) -> None:
    for form in ([], ["--json"]):
        token = fleet.json("enrol", "agx0", "--url", served.url)["token"]
        body = {"token": token, "hostname": "agx0", "machine_id": "m1", "protocol": PROTOCOL_VERSION}
        assert httpx.post(served.url + "/api/agents/enrol", json=body, trust_env=False).status_code == 201
        assert "agx0" in fleet("nodes", "--url", served.url).stdout
        done = fleet("nodes", "--remove", "agx0", "--url", served.url, *form).stdout
        assert (json.loads(done) == {"id": "agx0", "removed": True}) if form else (done == "agx0: removed\n")
        assert "No nodes yet" in fleet("nodes", "--url", served.url).stdout
    assert "agx0" in fleet("nodes", "--remove", "agx0", "--url", served.url, code=4).stderr


def test_audit(fleet: Command, served: Live) -> None:
    fleet("keys", "create", "audited", "--url", served.url)
    newest = fleet.json("audit", "--limit", "1", "--url", served.url)["entries"]
    assert [(each["row"], each["status"]) for each in newest] == [("POST /api/keys", 201)]
    assert "POST /api/keys" in fleet("audit", "--url", served.url).stdout
    fleet("audit", "--limit", "0", "--url", served.url, code=2)


def test_status(fleet: Command, served: Live) -> None:
    said = fleet("status", "--url", served.url).stdout
    assert said.startswith("Fleet Commander ")
    assert f" at {served.url}: " in said
    assert "nodes   0 online, 0 offline; 0 busy" in said
    assert fleet.json("status", "--url", served.url)["jobs"]["queued"] == 0


def test_status_stays_until_it_is_stopped(fleet: Command, served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    text = watched(fleet, monkeypatch, "--url", served.url)
    assert "Fleet Commander" in text
    assert "NODE" in text


def test_nobody_answers(fleet: Command) -> None:
    for words in (("status",), ("jobs",), ("nodes",), ("audit",), ("keys", "list"), ("enrol",)):
        refused = fleet(*words, "--url", "http://127.0.0.1:1", code=3).stderr
        assert refused.startswith("fleet: Nobody answers at http://127.0.0.1:1; start the control plane with 'fleet up'.")


def test_help_lists_every_command_in_order_with_the_exit_codes(fleet: Command) -> None:
    text = fleet("--help").stdout
    places = [text.index(f"\n│ {name} ") for name in ORDER]
    assert places == sorted(places)
    assert "Exit codes: 0 it went well" in text
    assert {each.name for each in app.registered_commands} | {each.name for each in app.registered_groups} == set(ORDER)


GROUPS = {
    "keys": ("create", "list", "revoke"),
    "tls": ("show", "renew", "use"),
    "vault": ("add", "change", "list", "remove", "rotate"),
    "lab": ("up", "status", "down"),
}
PATHS = [(name,) for name in ORDER if name not in GROUPS] + [(group, name) for group, names in GROUPS.items() for name in names]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_help_has_an_example(fleet: Command, path: tuple[str, ...]) -> None:
    text = " ".join(fleet(*path, "--help").stdout.split())
    assert "Example" in text
    assert f"fleet {' '.join(path)}" in text
    assert "a admin" not in text

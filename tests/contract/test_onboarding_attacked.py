"""What an attack on onboarding found, each as a test: names, machines that mean ill, joins at once, ids and headers."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet_api.adapters.ansible.inventory_socket import inventory_of
from fleet_api.adapters.ansible.play import Outcome, Play
from fleet_api.adapters.ansible.runner import UNKNOWN
from fleet_api.adapters.ssh.errors import Unreachable
from fleet_api.cli.main import app
from fleet_api.nodes.facts import kept
from fleet_api.nodes.progress import word_of
from tests.contract.test_onboarding import FIRST, SECOND, Bench, bench  # noqa: F401 - a fixture
from tests.support.machines import Machine


@pytest.mark.parametrize("name", ["localhost", "nodes", "all", "ungrouped", "manager"])
def test_a_machine_with_a_name_that_means_something_else_gets_another(bench: Bench, name: str) -> None:  # noqa: F811
    bench.ssh.machines[FIRST].hostname = name
    row = bench.ended(bench.join())
    assert row["state"] == "succeeded"
    assert row["node_ids"] != [name]
    refused = bench.api.post("/api/nodes", json={"id": name, "ip": "10.0.0.99"})
    assert refused.status_code in (400, 409)
    assert name in refused.json()["detail"]


def test_a_copied_disk_takes_no_place(bench: Bench) -> None:  # noqa: F811
    bench.ended(bench.join())
    bench.ssh.machines[SECOND] = Machine("agx0", "machine 0")
    row = bench.ended(bench.join(SECOND))
    assert row["node_ids"] != ["agx0"]
    assert bench.node("agx0")["ip"] == FIRST
    bench.ssh.machines[FIRST].error = Unreachable("gone")


def test_a_retire_that_never_ran_retires_nobody(bench: Bench) -> None:  # noqa: F811
    bench.ended(bench.join())
    bench.plays.outcome = Outcome(1, {"agx0": UNKNOWN}, error="The process that ran the play ended too early.")
    row = bench.ended(bench.api.post("/api/nodes/agx0/retire").json()["operation_id"])
    assert (row["state"], "ended too early" in row["reason"]) == ("failed", True)
    assert bench.node("agx0")["status"] != "retired"


def test_secrets_and_poison_in_reasons_and_facts(bench: Bench) -> None:  # noqa: F811
    facts = {"jetpack_version": "5.1.2\ud800", "said": "correct horse", "deep": [[[[[[[["x"]]]]]]]], "y" * 200: 1}
    bench.plays.outcome = Outcome(0, {"agx0": "ok"}, results={"agx0": {"fleet_facts": facts}})
    bench.ended(bench.join())
    shown = bench.api.get("/api/nodes/agx0")
    assert shown.status_code == 200
    assert "correct horse" not in shown.text
    assert bench.api.get("/api/nodes?details=true").status_code == 200
    bench.plays.outcome = Outcome(2, {"agx0": "failed"}, reasons={"agx0": "token correct horse echoed"})
    bench.ended(bench.api.post("/api/operations", json={"kind": "doctor", "node_ids": ["agx0"]}).json()["id"])
    assert "correct horse" not in bench.node("agx0")["reason"]


def test_facts_that_are_too_many_are_left_out() -> None:
    assert kept({"a": ["x" * 1000] * 100})[0] == {}
    assert kept([1])[0] == {}
    assert kept({"a": float("nan"), "b": True})[0] == {"a": None, "b": True}


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 5000,
        b"{",
        b"[]",
        b'{"what": 1, "text": "x"}',
        b'{"text": "x"}',
        b'{"what": "p", "text": ["x"]}',
        b'{"what": {}, "text": "x"}',
    ],
)
def test_lines_of_progress_that_nobody_of_ours_writes(line: bytes) -> None:
    assert word_of(line) is None


def test_percent_of_progress_is_a_number_or_nothing() -> None:
    assert word_of(b'{"what": "p", "text": "x", "percent": 40}') == ("p", "x", 40.0)
    for percent in ("true", '"40"', "1e400", "-1", "[]"):
        assert word_of(b'{"what": "p", "text": "x", "percent": ' + percent.encode() + b"}") == ("p", "x", None)


def test_of_joins_at_once_one_is_taken(bench: Bench) -> None:  # noqa: F811
    bench.plays.gate = asyncio.Event()
    together = threading.Barrier(8)

    def join(_: int) -> int:
        together.wait()
        return int(bench.api.post("/api/network/join", json={"ip": FIRST, "credential_id": bench.credential}).status_code)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(join, range(8))) == [201] + [409] * 7
    bench.api.portal.call(bench.plays.gate.set)


def test_a_nodes_address_stays_while_an_operation_is_at_work_there(bench: Bench) -> None:  # noqa: F811
    bench.ended(bench.join())
    bench.plays.gate = asyncio.Event()
    row = bench.api.post("/api/operations", json={"kind": "doctor", "node_ids": ["agx0"]}).json()
    bench.running(row["id"])
    assert bench.api.patch("/api/nodes/agx0", json={"ip": "10.0.0.77"}).status_code == 409
    assert bench.api.patch("/api/nodes/agx0", json={"labels": {"rack": "a"}}).status_code == 200
    bench.api.portal.call(bench.plays.gate.set)
    bench.ended(row["id"])
    assert bench.api.patch("/api/nodes/agx0", json={"ip": "10.0.0.77"}).status_code == 200


def test_one_address_has_one_form(bench: Bench) -> None:  # noqa: F811
    for address in ("fe80::1%a b;x", "fe80::1%\n*", "10.0.0.011"):
        assert bench.api.post("/api/nodes", json={"ip": address}).status_code == 400, address
    bench.join()
    mapped = bench.api.post("/api/network/join", json={"ip": f"::ffff:{FIRST}", "credential_id": bench.credential})
    assert mapped.status_code in (400, 409)


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 30, "-1", "x", "１２"])
def test_last_event_ids_of_any_kind(bench: Bench, value: str) -> None:  # noqa: F811
    row = bench.ended(bench.join())
    answer = bench.api.get(f"/api/operations/{row['id']}/events", headers={"Last-Event-ID": value.encode()})
    assert answer.status_code in (200, 400)
    assert "event: ended" in answer.text or answer.status_code == 400


def test_a_host_name_with_nul(bench: Bench) -> None:  # noqa: F811
    bench.ssh.machines[FIRST].hostname = "ag\x00x\ud8007"
    assert bench.ended(bench.join())["state"] == "succeeded"


def test_a_retired_node_is_not_brought_to_its_state(bench: Bench) -> None:  # noqa: F811
    bench.ended(bench.join())
    bench.ended(bench.api.post("/api/nodes/agx0/retire").json()["operation_id"])
    answer = bench.api.post("/api/operations", json={"kind": "site", "node_ids": ["agx0"]})
    assert (answer.status_code, "retired" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize("words", [["operations", ""], ["operations", "../nodes"], ["operations", "a?b=c", "--follow"]])
def test_odd_ids_on_the_command_line(words: list[str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = CliRunner().invoke(app, [*words, "--url", f"http://127.0.0.1:{port}"], env={"FLEET_HOME": str(tmp_path)})
    assert done.exit_code in (2, 3)
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_the_operations_inventory_keeps_hosts_apart_from_groups() -> None:
    play = Play("x", {"agx0": {"ansible_host": FIRST}}, groups={"cluster_vision": ["agx0"]})
    found: dict[str, Any] = json.loads(json.dumps(inventory_of(play)))
    assert found["groups"] == {"cluster_vision": ["agx0"], "nodes": ["agx0"]}

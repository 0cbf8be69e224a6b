"""What an attack on operations found, each as a test: races, poison, full disks."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleet_api import collection
from fleet_api.adapters.ansible.fake import FakePlays
from fleet_api.adapters.ansible.play import Outcome, Play, Told
from fleet_api.adapters.ansible.runner import UNKNOWN, AnsiblePlays, _read
from fleet_api.errors import Conflict, Timeout
from fleet_api.kit.db import DatabaseUnusable
from fleet_api.operations import repository
from fleet_api.operations.work import OperationFailed, Work
from tests.unit.operations.test_operation_service import Sum, bench, until

DEEP: dict[str, Any] = {}
for _ in range(900):
    DEEP = {"deeper": DEEP}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "line", "text": "half a pair: \ud800"},
        {"type": "line", "text": "nul: \x00"},
        {"type": "line", "text": "x", "data": {"deep": DEEP}},
        {"type": "line", "text": "x", "data": {"\ud800": ["\ud800", float("nan"), float("inf")]}},
        {"type": "line", "text": "x", "node_id": "\ud800", "task": "\ud800"},
        {"type": "line", "text": "x", "data": {"large": ["y" * 9_000] * 400}},
    ],
)
async def test_nothing_that_a_machine_says_keeps_an_operation_from_its_end(tmp_path: Path, event: Told) -> None:
    async with bench(tmp_path, FakePlays([event])) as it:
        row = await it.operations.wait(await it.submit("a"), 5)
        assert row.state == "succeeded"
        kept = [each async for each in it.operations.follow(row.id, 0) if each]
        assert [each.seq for each in kept] == [1, 2, 3]
        assert len(json.dumps(kept[1].data)) < 70_000
        json.dumps([kept[1].text, kept[1].data], allow_nan=False).encode()
        assert await it.db.read(repository.held) == {}


async def test_a_poisonous_reason_and_result_end_too(tmp_path: Path) -> None:
    class Poison(Sum):
        name = "poison"

        async def run(self, work: Work) -> None:
            work.result.update({"deep": DEEP, "half": "\ud800"})
            raise OperationFailed("It says \ud800.")

    async with bench(tmp_path) as it:
        it.operations.kinds.add(Poison())
        row = await it.operations.wait((await it.operations.submit("poison", {"node_ids": ["a"]}, caller="me")).id, 5)
        assert (row.state, row.reason) == ("failed", "It says ?.")


async def test_of_many_on_few_nodes_none_is_forgotten(tmp_path: Path) -> None:
    async with bench(tmp_path, limit=4) as it:
        made = [await it.submit(f"n{n % 8}") for n in range(300)]
        for each in made:
            assert (await it.operations.wait(each, 30)).state == "succeeded"


async def test_a_lock_taken_in_mid_work_forgets_nobody(tmp_path: Path) -> None:
    class Late(Sum):
        name = "late"

        def locks(self, request: dict[str, Any]) -> list[str]:
            return []

        async def run(self, work: Work) -> None:
            await work.lock(work.request["node_ids"][0])
            await asyncio.sleep(0.001)

    async with bench(tmp_path, limit=6) as it:
        it.operations.kinds.add(Late())
        kinds = random.Random(7)
        made = []
        for n in range(150):
            row = await it.operations.submit(kinds.choice(["late", "sum"]), {"node_ids": [f"n{n % 3}"]}, caller="me")
            made.append(row.id)
        states = [(await it.operations.wait(each, 30)).state for each in made]
        assert set(states) <= {"succeeded", "failed"}
        assert await it.db.read(repository.held) == {}


async def test_a_full_disk_as_an_operation_starts_delays_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.operations.service.AGAIN_SECONDS", 0.05)
    async with bench(tmp_path) as it:
        write, full = it.db.write, True

        async def failing(fn: Any) -> Any:
            if full and "take" in fn.__qualname__:
                raise DatabaseUnusable("The disk that holds the database is full.")
            return await write(fn)

        monkeypatch.setattr(it.db, "write", failing)
        first, second = await it.submit("a"), await it.submit("a")
        await asyncio.sleep(0.2)
        assert (await it.operations.get(first)).state == "queued"
        full = False
        for each in (first, second):
            assert (await it.operations.wait(each, 5)).state == "succeeded"


async def test_cancelling_with_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet_api.operations.service.AGAIN_SECONDS", 0.05)
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        running, waiting = await it.submit("a"), await it.submit("a")
        await until(lambda: running in plays.running)
        write, full = it.db.write, True

        async def failing(fn: Any) -> Any:
            if full:
                raise DatabaseUnusable("The disk that holds the database is full.")
            return await write(fn)

        monkeypatch.setattr(it.db, "write", failing)
        with pytest.raises(DatabaseUnusable):
            await it.operations.cancel(waiting)
        await it.operations.cancel(running)
        await until(lambda: running not in plays.running)
        full = False
        assert (await it.operations.wait(running, 5)).state == "cancelled"
        await until(lambda: waiting in plays.running)
        await it.operations.cancel(waiting)
        assert (await it.operations.wait(waiting, 5)).state == "cancelled"


async def test_parts_go_with_their_whole_however_early_it_is_cancelled(tmp_path: Path) -> None:
    class Whole(Sum):
        name = "whole"
        waits_only = True

        async def run(self, work: Work) -> None:
            for n in range(50):
                await it.operations.submit("sum", {"node_ids": [f"n{n}"]}, caller="me", parent_id=work.id)
            await asyncio.sleep(60)

    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        it.operations.kinds.add(Whole())
        for pause in (0.0, 0.001, 0.003, 0.01):
            row = await it.operations.submit("whole", {"node_ids": []}, caller="me")
            await asyncio.sleep(pause)
            await it.operations.cancel(row.id)
            await it.operations.wait(row.id, 5)
            await until(lambda: not it.operations.unfinished())
        rows, _ = await it.operations.page(500, 0, None, None)
        assert {each.state for each in rows} == {"cancelled"}


async def test_a_wait_that_is_over_breaks_no_follower(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a")

        async def follow() -> list[str]:
            return [each.type async for each in it.operations.follow(operation_id, 0) if each]

        following = asyncio.create_task(follow())
        await until(lambda: operation_id in plays.running)
        with pytest.raises(Timeout):
            await it.operations.wait(operation_id, 0.05)
        plays.gate.set()
        assert (await asyncio.wait_for(following, 5))[-1] == "end"
        assert it.operations._news == {}


async def test_a_retry_that_is_under_way_is_not_doubled(tmp_path: Path) -> None:
    plays = FakePlays(outcome=Outcome(2, {"a": "failed"}))
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a")
        await it.operations.wait(operation_id, 5)
        plays.gate = asyncio.Event()
        again = await it.operations.retry(operation_id, "me")
        with pytest.raises(Conflict, match=again.id):
            await it.operations.retry(operation_id, "me")


async def test_secrets_that_begin_alike_and_as_json_writes_them(tmp_path: Path) -> None:
    class Two(Sum):
        name = "two"

        async def run(self, work: Work) -> None:
            work.journal.hide(frozenset({"hunter2", "hunter2-sudo", 'quo"te\\ü'}))
            work.tell("line", "hunter2-sudo " + json.dumps({"password": 'quo"te\\ü'}))

    async with bench(tmp_path) as it:
        it.operations.kinds.add(Two())
        row = await it.operations.submit("two", {"node_ids": []}, caller="me")
        await it.operations.wait(row.id, 5)
        text = (await it.operations.events(row.id, 1))[0].text
        assert "sudo" not in text
        assert "quo" not in text


def real_plays(root: Path, **playbooks: str) -> AnsiblePlays:
    """Return the real thing, with these playbooks."""
    for name in ("playbooks", "inventory"):
        (root / name).mkdir()
    for name, text in playbooks.items():
        (root / "playbooks" / f"{name}.yml").write_text(text)
    shutil.copy(collection.root() / "ansible.cfg", root / "ansible.cfg")
    shutil.copy(collection.root() / "inventory" / "fleet.yml", root / "inventory" / "fleet.yml")
    return AnsiblePlays(root, root / "locks")


DELEGATED = """
- name: On the controller
  hosts: nodes
  gather_facts: false
  tasks:
    - name: Here
      ansible.builtin.command: "true"
      delegate_to: localhost
"""
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1}


async def test_what_is_for_the_controller_runs_there(tmp_path: Path) -> None:
    plays = real_plays(tmp_path, here=DELEGATED)
    outcome = await plays.run("here", Play("here", {"a": NOWHERE}), False, lambda _: None)
    assert (outcome.hosts, outcome.error) == ({"a": "ok"}, "")


@pytest.mark.parametrize("name", ["localhost", "nodes", "all", "cluster_vision"])
async def test_a_host_that_is_called_like_a_group_runs_nothing(tmp_path: Path, name: str) -> None:
    plays = real_plays(tmp_path, here=DELEGATED)
    play = Play("here", {name: NOWHERE, "b": NOWHERE}, groups={"cluster_vision": ["b"]})
    outcome = await plays.run("here", play, False, lambda _: None)
    assert not outcome.good
    assert set(outcome.hosts.values()) == {UNKNOWN}


async def test_a_play_that_never_ran_says_nothing_of_its_hosts(tmp_path: Path) -> None:
    plays = real_plays(tmp_path)
    outcome = await plays.run("none", Play("no-such-playbook", {"a": {"ansible_connection": "local"}}), False, lambda _: None)
    assert outcome.hosts == {"a": UNKNOWN}
    assert not outcome.good
    assert outcome.error
    assert list((tmp_path / "locks").iterdir()) == []


async def test_an_event_that_is_too_large_ends_nothing() -> None:
    script = (
        'import sys; print(\'{"type": "line", "text": "\' + \'x\' * 300000 + \'"}\'); print(\'{"type": "exit", "text": "", "code": 0}\')'
    )
    child = await asyncio.create_subprocess_exec(
        "python3", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=65536
    )
    outcome, told = Outcome(code=1), []
    await _read(child, outcome, told.append)
    assert outcome.code == 0
    assert {each["type"] for each in told} == {"note"}

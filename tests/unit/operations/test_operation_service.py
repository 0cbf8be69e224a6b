"""Operations: queued, started when their nodes are free, told of, cancelled, retried, lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet_api.adapters.ansible.fake import FakePlays
from fleet_api.adapters.ansible.play import Outcome, Play
from fleet_api.errors import Conflict, InvalidValue, NotFound, Timeout
from fleet_api.kit.bus import Bus
from fleet_api.kit.db import Database
from fleet_api.migrate import upgrade
from fleet_api.operations import repository
from fleet_api.operations.kinds import Kinds
from fleet_api.operations.service import OperationService
from fleet_api.operations.work import OperationFailed, Work
from tests.support.clock import ManualClock


class Sum:
    """A kind with one play on the nodes named."""

    name = "sum"
    waits_only = False

    def title(self, request: dict[str, Any]) -> str:
        return f"Sum {request['node_ids']}"

    def locks(self, request: dict[str, Any]) -> list[str]:
        return list(request["node_ids"])

    async def retried(self, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        return {"node_ids": [node for node in request["node_ids"] if result.get("hosts", {}).get(node) != "ok"]}

    async def run(self, work: Work) -> None:
        play = Play("sum", {node: {} for node in work.request["node_ids"]}, steps=("first", "second"), secrets=frozenset({"hunter2!"}))
        outcome = await work.play(play)
        work.result["hosts"] = outcome.hosts
        if not outcome.good:
            raise OperationFailed("It did not add up: hunter2! was shown.")


class Bench:
    def __init__(self, path: Path, plays: FakePlays, limit: int) -> None:
        self.db = Database(path)
        self.bus = Bus()
        self.plays = plays
        self.operations = OperationService(self.db, ManualClock(), self.bus, plays, limit)
        self.operations.kinds.add(Sum())

    async def submit(self, *nodes: str) -> str:
        return (await self.operations.submit("sum", {"node_ids": list(nodes)}, caller="me", node_ids=nodes)).id


@asynccontextmanager
async def bench(tmp_path: Path, plays: FakePlays | None = None, limit: int = 4) -> AsyncIterator[Bench]:
    path = tmp_path / "fleet.db"
    upgrade(path)
    made = Bench(path, plays or FakePlays(), limit)
    await made.operations.load()
    try:
        yield made
    finally:
        await made.operations.stop()
        await made.db.close()


async def until(what: Any) -> None:
    async with asyncio.timeout(5):
        while not what():  # noqa: ASYNC110 - it is others' state, which tells nobody of its changes
            await asyncio.sleep(0.01)


async def test_it_runs_and_its_events_are_numbered_without_gaps(tmp_path: Path) -> None:
    told = [
        {"type": "task", "text": "one", "task": "one", "role": "first"},
        {"type": "changed", "text": "the password is hunter2! ok", "node_id": "a", "task": "one", "data": {"msg": ["hunter2!"]}},
        {"type": "task", "text": "two", "task": "two", "role": "second"},
    ]
    async with bench(tmp_path, FakePlays(told)) as it:
        operation_id = await it.submit("a")
        row = await it.operations.wait(operation_id, 5)
        assert (row.state, row.step, row.progress, row.result) == ("succeeded", "second", 100.0, {"hosts": {"a": "ok"}})
        events = [event async for event in it.operations.follow(operation_id, 0) if event]
        assert [event.seq for event in events] == list(range(1, len(events) + 1)) == list(range(1, row.last_event + 1))
        assert [event.type for event in events] == ["start", "task", "changed", "task", "end"]
        assert "hunter2" not in str([(event.text, event.data) for event in events])
        assert [event.seq for event in await it.operations.events(operation_id, 3)] == [4, 5]


async def test_a_follower_that_comes_back_sees_each_event_once(tmp_path: Path) -> None:
    plays = FakePlays([{"type": "line", "text": str(n)} for n in range(700)])
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a")
        seen: list[int] = []
        while len(seen) < 705:
            if len(seen) > 300:
                plays.gate.set()
            async for event in it.operations.follow(operation_id, seen[-1] if seen else 0):
                if event is not None:
                    seen.append(event.seq)
                    if event.seq % 97 == 0:
                        break  # the line broke here
            else:
                break
        assert seen == list(range(1, 703))


async def test_one_operation_a_node_at_a_time(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        first, second, third = await it.submit("a", "b"), await it.submit("b", "c"), await it.submit("d")
        await until(lambda: plays.running == {first, third})
        assert (await it.operations.get(second)).state == "queued"
        plays.gate.set()
        assert (await it.operations.wait(second, 5)).state == "succeeded"
        assert await it.db.read(repository.held) == {}


async def test_no_more_at_once_than_the_limit(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays, limit=2) as it:
        ids = [await it.submit(f"n{n}") for n in range(6)]
        await until(lambda: len(plays.running) == 2)
        plays.gate.set()
        for each in ids:
            await it.operations.wait(each, 5)
        assert plays.most_at_once == 2
        assert sorted(next(iter(play.hosts)) for play in plays.seen) == [f"n{n}" for n in range(6)]


async def test_cancel_while_queued_and_while_running(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        running, waiting = await it.submit("a"), await it.submit("a")
        await until(lambda: running in plays.running)
        await it.operations.cancel(waiting)
        row = await it.operations.get(waiting)
        assert (row.state, row.reason) == ("cancelled", "It was cancelled before it began.")
        await it.operations.cancel(running)
        await it.operations.cancel(running)  # twice is no harm
        assert (await it.operations.wait(running, 1)).state == "cancelled"
        assert plays.running == set()
        assert await it.db.read(repository.held) == {}
        with pytest.raises(Conflict, match="has ended already: cancelled"):
            await it.operations.cancel(running)


async def test_a_failure_is_told_without_secrets_and_a_retry_takes_the_rest(tmp_path: Path) -> None:
    plays = FakePlays(outcome=Outcome(code=2, hosts={"a": "ok", "b": "failed"}))
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a", "b")
        row = await it.operations.wait(operation_id, 5)
        assert (row.state, row.reason) == ("failed", "It did not add up: [secret] was shown.")
        plays.outcome = None
        again = await it.operations.retry(operation_id, "me")
        assert (await it.operations.wait(again.id, 5)).state == "succeeded"
        assert list(plays.seen[-1].hosts) == ["b"]
        assert (again.retry_of, again.node_ids) == (operation_id, ["b"])
        with pytest.raises(Conflict, match="has succeeded"):
            await it.operations.retry(again.id, "me")


async def test_a_restart_loses_what_ran_and_takes_up_what_waited(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        running, waiting = await it.submit("a"), await it.submit("a")
        await until(lambda: running in plays.running)
        it.operations._stopping = True  # as after kill -9: nothing is written any more
        for each in it.operations._running.values():
            each.row.cancel_asked = False
            each.doing.cancel()
            assert each.whole is not None
            each.whole.cancel()
    async with bench(tmp_path) as again:
        row = await again.operations.get(running)
        assert row.state == "lost"
        assert "try again with a retry" in (row.reason or "")
        assert (await again.operations.wait(waiting, 5)).state == "succeeded"
        assert await again.db.read(repository.held) == {}


def test_what_others_do_may_have_gone_on_without_the_control_plane() -> None:
    waits, works = Sum(), Sum()
    waits.name, waits.waits_only = "waits", True
    kinds = Kinds([waits, works])
    assert "may have gone on" in kinds.lost("waits")
    assert "has been stopped" in kinds.lost("sum")
    assert "has been stopped" in kinds.lost("of an earlier version")


async def test_what_breaks_inside_is_a_sentence(tmp_path: Path) -> None:
    class Broken(Sum):
        name = "broken"

        async def run(self, work: Work) -> None:
            raise RuntimeError("secret internals")

    async with bench(tmp_path) as it:
        it.operations.kinds.add(Broken())
        row = await it.operations.submit("broken", {"node_ids": ["a"]}, caller="me")
        ended = await it.operations.wait(row.id, 5)
        assert ended.reason == "The control plane failed at this; its log tells more. Try again with a retry."


async def test_unknown_things(tmp_path: Path) -> None:
    async with bench(tmp_path) as it:
        with pytest.raises(NotFound):
            await it.operations.get("nothing")
        with pytest.raises(InvalidValue, match="kind must be one of sum"):
            await it.operations.submit("nothing", {}, caller="me")


async def test_waiting_names_the_operation_that_goes_on(tmp_path: Path) -> None:
    plays = FakePlays()
    plays.gate = asyncio.Event()
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a")
        with pytest.raises(Timeout, match=operation_id):
            await it.operations.wait(operation_id, 0.05)


async def test_a_flood_is_kept_in_order_and_its_loss_is_counted(tmp_path: Path) -> None:
    plays = FakePlays([{"type": "line", "text": f"line {n}"} for n in range(25_000)])
    async with bench(tmp_path, plays) as it:
        operation_id = await it.submit("a")
        row = await it.operations.wait(operation_id, 30)
        events = [event async for event in it.operations.follow(operation_id, 0) if event]
        assert len(events) == row.last_event
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert any("events were left out" in event.text for event in events)
        assert events[-1].type == "end"


async def test_old_operations_go_with_their_events_and_unfinished_ones_stay(tmp_path: Path) -> None:
    plays = FakePlays()
    async with bench(tmp_path, plays) as it:
        ended = [await it.submit(f"n{n}") for n in range(5)]
        for each in ended:
            await it.operations.wait(each, 5)
        plays.gate = asyncio.Event()
        running = await it.submit("a")
        await until(lambda: running in plays.running)
        assert await it.db.read(lambda db: repository.ended_before(db, None, 5, 50)) == []
        surplus = await it.db.read(lambda db: repository.ended_before(db, None, 2, 50))
        assert set(surplus) <= set(ended)
        assert len(surplus) == 3
        await it.db.write(lambda db: repository.remove(db, surplus))
        assert await it.db.read(lambda db: repository.events_after(db, surplus[0], 0, 10)) == []
        assert (await it.operations.page(50, 0, None, None))[1] == 3
        every = await it.db.read(lambda db: repository.ended_before(db, 1e12, None, 50))
        assert running not in every
        assert len(every) == 2

"""The courier on rows of its own, with a way out that leads nowhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet_api.access.vault.keyring import Keyring
from fleet_api.access.vault.service import VaultService
from fleet_api.adapters.http_out.fake import FakeHttpOut
from fleet_api.adapters.http_out.types import Answer
from fleet_api.callbacks import courier as module
from fleet_api.callbacks import repository
from fleet_api.callbacks.courier import KEPT_ATTEMPTS, Courier
from fleet_api.callbacks.models import Delivery
from fleet_api.callbacks.secrets import WebhookSecrets
from fleet_api.callbacks.service import Callbacks
from fleet_api.errors import Conflict
from fleet_api.kit.db import Database, DatabaseUnusable
from fleet_api.migrate import upgrade
from tests.support.clock import ManualClock


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    upgrade(tmp_path / "fleet.db")
    found = Database(tmp_path / "fleet.db")
    yield found
    await found.close()


@pytest.fixture
def http() -> FakeHttpOut:
    return FakeHttpOut()


@pytest.fixture
def courier(db: Database, clock: ManualClock, http: FakeHttpOut, tmp_path: Path) -> Courier:
    return Courier(db, clock, http, WebhookSecrets(db, clock, VaultService(db, clock, Keyring(tmp_path / "vault"))))


async def add(db: Database, clock: ManualClock, name: str, host: str = "app.invalid:80") -> None:
    row = Delivery(
        id=name, job_id="job", event="job.completed", url=f"http://{host}/", host=host, status="pending", body="{}", created_at=clock.now(),
        next_attempt_at=clock.now(),
    ).model_dump()  # fmt: skip
    row.pop("seq")
    await db.write(lambda connection: repository.add(connection, [row]))


async def settle(courier: Courier) -> float:
    pause = await courier.round()
    await courier.settled()
    return pause


async def row(db: Database, name: str) -> Delivery:
    found = await db.read(lambda connection: repository.get(connection, name))
    assert found is not None
    return found


async def delivered(db: Database, name: str) -> None:
    for _ in range(500):
        if (await row(db, name)).status == "delivered":
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it was not delivered")


async def test_of_many_attempts_the_newest_are_kept(db: Database, clock: ManualClock, http: FakeHttpOut, courier: Courier) -> None:
    await add(db, clock, "m")
    http.answers = ["Nobody answers at app.invalid:80."]
    for number in range(KEPT_ATTEMPTS + 5):
        await settle(courier)
        clock.advance(1)
        if number < KEPT_ATTEMPTS + 4:
            await Callbacks(db, clock, courier).replay("job", "m")
    found = await row(db, "m")
    assert len(http.sent) == KEPT_ATTEMPTS + 5
    assert len(found.attempts) == KEPT_ATTEMPTS
    assert len(json.dumps(found.attempts)) < 5_000
    assert (found.status, found.failures) == ("retrying", 1)


async def test_the_pause_is_until_the_next_is_due(db: Database, clock: ManualClock, http: FakeHttpOut, courier: Courier) -> None:
    assert await settle(courier) == module.LOOK_SECONDS
    await add(db, clock, "m")
    http.answers = [Answer(500)]
    await settle(courier)
    assert 3.9 <= await settle(courier) <= 6.1
    assert len(http.sent) == 1


async def test_an_attempt_that_cannot_be_noted_is_not_repeated_at_once(
    db: Database, clock: ManualClock, http: FakeHttpOut, courier: Courier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(db, clock, "m")
    monkeypatch.setattr(module, "TROUBLE_SECONDS", 0.3)
    real = db.write

    async def full(fn: object) -> None:
        raise DatabaseUnusable("The disk that holds the database is full; free some space and try again.")

    await courier._secrets.show()
    db.write = full  # type: ignore[method-assign, assignment]
    async with courier.running():
        await asyncio.sleep(0.15)
        assert len(http.sent) == 1
        db.write = real  # type: ignore[method-assign]
        await delivered(db, "m")
    assert len(http.sent) == 2
    assert http.sent[0][1]["webhook-id"] == http.sent[1][1]["webhook-id"] == "m"


async def test_what_is_kept_back_is_not_delivered(db: Database, clock: ManualClock, http: FakeHttpOut, courier: Courier) -> None:
    await add(db, clock, "m")
    with courier.kept_back("m"):
        await settle(courier)
        assert http.sent == []
        with pytest.raises(Conflict), courier.kept_back("m"):
            pass
    await settle(courier)
    assert len(http.sent) == 1


async def test_one_host_with_many_messages_leaves_room_for_others(db: Database, clock: ManualClock, courier: Courier) -> None:
    class Silent:
        """Receivers of one host never answer."""

        def __init__(self) -> None:
            self.sent: list[str] = []

        async def post(self, url: str, *_: object) -> Answer:
            self.sent.append(url)
            if "dead" in url:
                await asyncio.sleep(60)
            return Answer(204)

    silent = Silent()
    courier.http = silent  # type: ignore[assignment]
    for number in range(100):
        await add(db, clock, f"d{number}", "dead.invalid:80")
    await add(db, clock, "last")
    async with courier.running():
        await delivered(db, "last")
        assert silent.sent.count("http://dead.invalid:80/") == 2
    assert (await row(db, "d0")).next_attempt_at is not None, "what was cut off is due again"

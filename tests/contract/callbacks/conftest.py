"""A control plane that may call loopback, and somebody there who listens."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fleet_api.app import create_app
from fleet_api.settings import Settings
from tests.support.client import client_of
from tests.support.clock import ManualClock
from tests.support.receiver import Receiver, receiver

LOOPBACK = ["127.0.0.0/8"]


class WallClock(ManualClock):
    """Stands still until a test moves it, but begins with the present: receivers' libraries refuse what is not fresh."""

    def __init__(self) -> None:
        super().__init__()
        self._now = time.time()


@pytest.fixture
def clock() -> ManualClock:
    return WallClock()


@pytest.fixture
def api(settings: Settings, clock: ManualClock, _empty_database: Path) -> Iterator[TestClient]:
    settings = settings.model_copy(update={"callback_networks": LOOPBACK})
    settings.home.mkdir()
    shutil.copy(_empty_database, settings.database)
    with client_of(create_app(settings, clock)) as client:
        yield client


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found

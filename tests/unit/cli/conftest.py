"""The command, and a control plane on a real socket that it may call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_api.settings import Settings
from tests.support.command import Command
from tests.support.live import Live, live


@pytest.fixture
def fleet(tmp_path: Path) -> Command:
    return Command(tmp_path / "home")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(Settings(home=tmp_path_factory.mktemp("served") / "home", port=0)) as found:
        yield found

"""Buckets at a server that has neither policies nor lifecycle rules: all that it can, and a warning for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_api.adapters.object_store.types import StoreAway, StoreRefuses
from fleet_api.storage.buckets import BUCKETS
from fleet_api.storage.setup import set_up
from tests.support.s3 import S3Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with S3Server(tmp_path / "store") as made:
        yield made


def test_made_once_with_a_warning_for_what_the_server_has_not(server: S3Server) -> None:
    would = set_up(server.store(), 7, 2, check=True)
    assert would.changed == [f"bucket {each}" for each in BUCKETS]
    assert server.store().buckets() == []
    done = set_up(server.store(), 7, 2)
    assert done.changed == would.changed
    assert ["has no bucket policies" in done.warnings[0], "has no lifecycle rules" in done.warnings[1]] == [True, True]
    again = set_up(server.store(), 7, 2)
    assert (again.changed, again.warnings) == ([], done.warnings)


def test_who_is_not_let_in_is_told_so(server: S3Server) -> None:
    with pytest.raises(StoreRefuses):
        set_up(server.store("another-secret"), 7, 2)
    server.stop()
    with pytest.raises(StoreAway):
        set_up(server.store(), 7, 2)

"""Ceph's gateway, started once for all that want it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.rgw import Gateway, missing


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    if lacking := missing():
        pytest.skip(f"Debian's radosgw, ceph-mon and ceph-osd are wanted; this machine lacks {lacking}")
    with Gateway(tmp_path_factory.mktemp("rgw")) as made:
        yield made

from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_nothing_was_left(host: Any) -> None:
    assert not host.file("/var/lib/fleet").exists
    assert not host.file("/etc/fleet").exists

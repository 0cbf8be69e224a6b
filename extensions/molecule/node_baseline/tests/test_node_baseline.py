from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_somebody_keeps_the_clock(host: Any) -> None:
    assert host.package("chrony").is_installed
    assert host.service("chrony").is_enabled


def test_the_journal_is_bounded(host: Any) -> None:
    assert "SystemMaxUse=200M" in host.check_output("systemd-analyze cat-config systemd/journald.conf")


def test_logs_are_rotated(host: Any) -> None:
    assert host.package("logrotate").is_installed
    assert "/var/log/fleet" in host.check_output("cat /etc/logrotate.d/*")

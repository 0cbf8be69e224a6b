from __future__ import annotations

from typing import Any

from extensions.molecule.common.outside import HOSTS

testinfra_hosts = HOSTS


def test_the_power_mode_is_the_one_asked_for(host: Any) -> None:
    assert "MODE_30W" in host.check_output("nvpmodel -q")


def test_there_is_no_desktop(host: Any) -> None:
    assert host.check_output("systemctl get-default") == "multi-user.target"
